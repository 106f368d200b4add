// Runs before the constructors of shared libraries do: OpenBLAS starts a thread for each core in its own, each with
// 128 MiB of address space, and ends the process where it cannot. Workers have threads of their own, the parent has no use
// for any, so the program begins anew with OpenBLAS told to start none.

#define _GNU_SOURCE
#include "CStartup.h"

#include <stddef.h>
#include <sys/auxv.h>
#include <unistd.h>

// Libraries have not begun, those of sanitizers neither.
#define EARLY __attribute__((disable_sanitizer_instrumentation, no_sanitize("address", "thread", "undefined")))

static int argument_count;
static char **arguments;

static char name[] = "OPENBLAS_NUM_THREADS=";
static char setting[] = "OPENBLAS_NUM_THREADS=1";

// A program's entry is made from this function; in a bundle of tests, which has another, nothing is to begin anew.
extern int main(int, char **);
extern int sae_extract_main(int, char **) __attribute__((weak));

// Whether `text` begins with `prefix`, its final zero included where `whole`.
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
    // Where neither works, the threads are only in the way.
    execve("/proc/self/exe", values, changed);
    const char *path = (const char *)getauxval(AT_EXECFN);
    if (path) execve(path, values, changed);
}

__attribute__((section(".preinit_array"), used, retain)) static void (*const first)(int, char **, char **) = begin;

int startup_argument_count(void) { return argument_count; }

const char *startup_argument(int index) { return arguments[index]; }
