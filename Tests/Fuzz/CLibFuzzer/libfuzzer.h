// Declares the function of libFuzzer for programs with their own `main` (llvm.org/docs/LibFuzzer.html, "Using
// libFuzzer as a library"). The toolchain has no header for it.
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));
