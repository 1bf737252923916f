/* Complex numbers of double precision. */
#define T cdouble
#define P z
#define R double
#define Q d
#define LANES 2
#define COMPLEX
#include "complex.h"
#include "triangular.h"
