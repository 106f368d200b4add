// Embeds kernels.ptx into the program. scripts/make/kernels compiles it from kernels.cu beforehand.
#include "CCUDA.h"

static const char ptx[] = {
#embed "kernels.ptx" suffix(, 0)
};

const char *ccuda_ptx(void) { return ptx; }
