/* Which containers a value has been seen to have: it is a tree only if none of them comes again. */
#include "encode.h"
#include <stdlib.h>

/* An error about o; %U in the format is the name of its type. */
int refuse(PyObject *kind, const char *format, PyObject *o) {
    PyObject *type = (PyObject *)Py_TYPE(o), *module = PyObject_GetAttrString(type, "__module__");
    PyObject *name = PyObject_GetAttrString(type, "__qualname__");
    if (module && name && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins"))
        Py_SETREF(name, PyUnicode_FromFormat("%U.%S", module, name));
    if (name) PyErr_Format(kind, format, name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return -1;
}

/* 1 if o was met before; -1 without memory. */
static int meet(Encoder *e, PyObject *o) {
    if (e->met.used * 2 >= e->met.capacity) {
        size_t capacity = e->met.capacity ? 2 * e->met.capacity : 64;
        PyObject **slots = calloc(capacity, sizeof *slots);
        if (!slots) return PyErr_NoMemory(), -1;
        for (size_t i = 0; i < e->met.capacity; i++) {
            PyObject *old = e->met.slots[i];
            if (!old) continue;
            size_t at = ((uintptr_t)old >> 4) * 0x9E3779B1u & (capacity - 1);
            while (slots[at]) at = (at + 1) & (capacity - 1);
            slots[at] = old;
        }
        free(e->met.slots);
        e->met.slots = slots;
        e->met.capacity = capacity;
    }
    size_t mask = e->met.capacity - 1, at = ((uintptr_t)o >> 4) * 0x9E3779B1u & mask;
    for (; e->met.slots[at]; at = (at + 1) & mask)
        if (e->met.slots[at] == o) return 1;
    e->met.slots[at] = o;
    e->met.used++;
    return 0;
}

int is_around(Encoder *e, PyObject *o) {
    for (const struct around *a = e->around; a; a = a->out)
        if (a->container == o) return 1;
    return 0;
}

int refuse_again(Encoder *e, PyObject *o) {
    return refuse(PyExc_ValueError,
                  is_around(e, o) ? "a cycle: this %U contains itself"
                                  : "this %U is in the value twice; send a copy in one of the places",
                  o);
}

int meet_once(Encoder *e, PyObject *o) {
    if (!e->shared && !has_other_holders(o)) return 0;
    int met = meet(e, o);
    return met > 0 ? refuse_again(e, o) : met;
}
