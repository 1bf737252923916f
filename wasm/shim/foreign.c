/* Stands in for libffi and the dynamic loader, below CPython's _ctypes. Types, structures, pointers and callbacks are CPython's own.
   There is no library to load. What can be called is a callback that the node made itself, and _ctypes' own memmove, memset,
   string_at and cast, whose arguments are all 32 bits wide. */
#include "ffi.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define TYPE(name, c, number) ffi_type ffi_type_##name = {sizeof(c), _Alignof(c), number, NULL};
ffi_type ffi_type_void = {1, 1, FFI_TYPE_VOID, NULL};
TYPE(uint8, uint8_t, FFI_TYPE_UINT8)
TYPE(sint8, int8_t, FFI_TYPE_SINT8)
TYPE(uint16, uint16_t, FFI_TYPE_UINT16)
TYPE(sint16, int16_t, FFI_TYPE_SINT16)
TYPE(uint32, uint32_t, FFI_TYPE_UINT32)
TYPE(sint32, int32_t, FFI_TYPE_SINT32)
TYPE(uint64, uint64_t, FFI_TYPE_UINT64)
TYPE(sint64, int64_t, FFI_TYPE_SINT64)
TYPE(float, float, FFI_TYPE_FLOAT)
TYPE(double, double, FFI_TYPE_DOUBLE)
TYPE(longdouble, long double, FFI_TYPE_LONGDOUBLE)
TYPE(pointer, void *, FFI_TYPE_POINTER)

ffi_status ffi_prep_cif(ffi_cif *cif, ffi_abi abi, unsigned nargs, ffi_type *rtype, ffi_type **atypes) {
    *cif = (ffi_cif){.abi = abi, .nargs = nargs, .arg_types = atypes, .rtype = rtype};
    return FFI_OK;
}

/* ---- callbacks. The address of one is that of its closure, which no function has: those are small numbers. */
static ffi_closure *closures;

void *ffi_closure_alloc(size_t size, void **code) {
    ffi_closure *closure = calloc(1, size);
    if (!closure) return NULL;
    closure->next = closures;
    *code = closures = closure;
    return closure;
}
void ffi_closure_free(void *closure) {
    for (ffi_closure **at = &closures; *at; at = &(*at)->next)
        if (*at == closure) {
            *at = (*at)->next;
            free(closure);
            return;
        }
}
ffi_status ffi_prep_closure_loc(ffi_closure *closure, ffi_cif *cif, void (*fun)(ffi_cif *, void *, void **, void *),
                                void *user_data, void *code) {
    closure->cif = cif;
    closure->fun = fun;
    closure->user_data = user_data;
    return FFI_OK;
}

/* ---- calls */
static int is_word(const ffi_type *type) { return type->size == 4 && type->type >= FFI_TYPE_UINT32; }

/* A function that is no function ends the guest, as it ends a process natively. */
void ffi_call(ffi_cif *cif, void *function, void *result, void **arguments) {
    uint32_t words[3] = {0};
    for (ffi_closure *closure = closures; closure; closure = closure->next)
        if (closure == function) {
            closure->fun(cif, result, arguments, closure->user_data);
            return;
        }
    if (cif->nargs < 2 || cif->nargs > 3 || !is_word(cif->rtype)) __builtin_trap();
    for (unsigned i = 0; i < cif->nargs; i++) {
        if (!is_word(cif->arg_types[i])) __builtin_trap();
        words[i] = *(const uint32_t *)arguments[i];
    }
    *(uint32_t *)result = cif->nargs == 2 ? ((uint32_t (*)(uint32_t, uint32_t))function)(words[0], words[1])
                                          : ((uint32_t (*)(uint32_t, uint32_t, uint32_t))function)(words[0], words[1], words[2]);
}

/* ---- libraries: only the program itself "opens", as `ctypes` needs it to be imported, and it has no symbols */
static char said[200];

void *foreign_open(const char *name, int flags) {
    if (!name) return said;
    snprintf(said, sizeof said, "%.100s: a sandboxed node cannot load a shared library; let the host call it, as a service", name);
    return NULL;
}
void *foreign_symbol(void *library, const char *name) {
    snprintf(said, sizeof said, "%.100s: no such symbol: a sandboxed node has no C functions to call", name);
    return NULL;
}
int foreign_close(void *library) { return 0; }
char *foreign_error(void) { return said; }
