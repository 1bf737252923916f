/* The exceptions of <fenv.h>, which wasi-libc does not define; their functions are in fenv.c. Values as on x86-64. */
#ifndef CLOCHE_FENV_H
#define CLOCHE_FENV_H

#include_next <fenv.h>

#undef FE_ALL_EXCEPT
#define FE_INVALID 1
#define FE_DIVBYZERO 4
#define FE_OVERFLOW 8
#define FE_UNDERFLOW 16
#define FE_INEXACT 32
#define FE_ALL_EXCEPT (FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT)

#endif
