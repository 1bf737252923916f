/* Double precision. */
#define T double
#define P d
#define LANES 2
#include "real_product.h"
#include "real_vector.h"
#include "triangular.h"
