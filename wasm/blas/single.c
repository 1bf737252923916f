/* Single precision. */
#define T float
#define P s
#define LANES 4
#include "real_product.h"
#include "real_vector.h"
#include "triangular.h"
