// libcurl's functions for a program that is linked without libcurl: each is looked up in libcurl.so.4 when it is first called,
// so that a host without libcurl can run all that makes no request. functions.h has FORWARD(name) for each that Foundation calls.
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static void *library;

static void load(void) {
    library = dlopen("libcurl.so.4", RTLD_NOW);
}

static void *find(const char *name) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    void *function = library ? dlsym(library, name) : NULL;
    if (function) return function;
    // The program has asked for the library before, with words of its own: this is one that is too old, or damaged.
    fprintf(stderr, "Error: %s; install libcurl 7.88 or later (Debian and Ubuntu: apt-get install libcurl4 ca-certificates)\n", dlerror());
    _exit(69);
}

// All arguments and results are numbers and addresses, six at most, which stay in their registers, the variable ones too.
typedef uintptr_t word;
#define FORWARD(name)                                                                \
    word name(word a, word b, word c, word d, word e, word f) {                      \
        static word (*_Atomic known)(word, word, word, word, word, word);            \
        word (*function)(word, word, word, word, word, word) = known;                \
        if (!function) known = function = find(#name);                               \
        return function(a, b, c, d, e, f);                                           \
    }
#include "functions.h"
