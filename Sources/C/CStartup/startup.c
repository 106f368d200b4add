// This code runs before the constructors of shared libraries. OpenBLAS' constructor starts one thread per core, each
// with 128 MiB of address space, and ends the process if a thread cannot be started. The program does not need these
// threads, because workers use threads of their own. So the program executes itself once more with
// OPENBLAS_NUM_THREADS=1, with which OpenBLAS starts no threads.

#define _GNU_SOURCE
#include "CStartup.h"

#include <stddef.h>
#include <sys/auxv.h>
#include <unistd.h>

// A function that must not be instrumented, because it runs before the libraries of sanitizers are initialised.
#define EARLY __attribute__((disable_sanitizer_instrumentation, no_sanitize("address", "thread", "undefined")))

static int argument_count;
static char **arguments;

static char name[] = "OPENBLAS_NUM_THREADS=";
static char setting[] = "OPENBLAS_NUM_THREADS=1";

// In the program, `main` is `sae_extract_main`. A test bundle has another `main`, and must not execute itself again.
extern int main(int, char **);
extern int sae_extract_main(int, char **) __attribute__((weak));

// Returns whether `text` begins with `prefix`. If `whole`, returns whether `text` equals `prefix`.
EARLY static int begins(const char *text, const char *prefix, int whole) {
    for (; *prefix; ++text, ++prefix) {
        if (*text != *prefix) return 0;
    }
    return !whole || !*text;
}

EARLY static void begin(int count, char **values, char **environment) {
    argument_count = count;
    arguments = values;
    if (sae_extract_main && main != sae_extract_main) return;
    size_t variables = 0;
    for (; environment[variables]; ++variables) {
        if (begins(environment[variables], setting, 1)) return;
    }
    char *changed[variables + 2];
    size_t kept = 0;
    for (size_t i = 0; i < variables; ++i) {
        if (!begins(environment[i], name, 0)) changed[kept++] = environment[i];
    }
    changed[kept++] = setting;
    changed[kept] = NULL;
    // If both calls of execve fail, the program continues with OpenBLAS' threads, which it does not use.
    execve("/proc/self/exe", values, changed);
    const char *path = (const char *)getauxval(AT_EXECFN);
    if (path) execve(path, values, changed);
}

__attribute__((section(".preinit_array"), used, retain)) static void (*const first)(int, char **, char **) = begin;

int startup_argument_count(void) { return argument_count; }

const char *startup_argument(int index) { return arguments[index]; }
