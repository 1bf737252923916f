/* Complex numbers of single precision. */
#define T cfloat
#define P c
#define R float
#define Q s
#define LANES 4
#define COMPLEX
#include "complex.h"
#include "triangular.h"
