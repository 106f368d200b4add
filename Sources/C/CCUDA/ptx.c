// kernels.ptx, made ahead of kernels.cu by scripts/build-kernels, as part of the program.
#include "CCUDA.h"

static const char ptx[] = {
#embed "kernels.ptx" suffix(, 0)
};

const char *ccuda_ptx(void) { return ptx; }
