/* The builtin module _cloche: what the guest's Python (cloche_guest) may call of C, and what it registers for C to call. */
#ifndef CLOCHE_MODULE_H
#define CLOCHE_MODULE_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What cloche_guest.boot has registered; NULL before. */
extern struct guest_hooks {
    PyObject *dispatch; /* message -> [reply, value] */
    PyObject *describe; /* (exception, phase, op, last) -> [reply, value] */
    PyObject *recover;  /* called after a call in which a notice was raised */
} guest_hooks;

PyObject *module_init(void);

#endif
