// What libFuzzer has for programs with a `main` of their own (llvm.org/docs/LibFuzzer.html,
// "Using libFuzzer as a library"). The toolchain has the library, but no header.
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));
