/* Included before decode.c and codec.c: their free() is the harness's, which keeps count of a request's blocks. */
#include <Python.h>
#include <stdlib.h>
void harness_free(void *address);
#define free harness_free
