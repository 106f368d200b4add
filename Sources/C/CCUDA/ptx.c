// Embeds kernels.ptx into the program. scripts/make/kernels makes this file from kernels.cu; the build does not.
#include "CCUDA.h"

static const char ptx[] = {
#embed "kernels.ptx" suffix(, 0)
};

const char *ccuda_ptx(void) { return ptx; }
