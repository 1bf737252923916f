/* The set of containers already encoded. A second visit means a cycle or one container in two places, which is refused.

   Slots hold addresses, hashed with linear probing; the set is at most half full. An address stays valid as long as the object
   lives: encode.c keeps those alive that it gets from the hook. */
#include "encode.h"
#include <stdlib.h>

/* Adds o. 1 if it is in the set already; -1 without memory. */
static int add(Encoder *e, PyObject *o) {
    if (e->seen.used * 2 >= e->seen.capacity) {
        size_t capacity = e->seen.capacity ? 2 * e->seen.capacity : 64;
        PyObject **slots = calloc(capacity, sizeof *slots);
        if (!slots) return PyErr_NoMemory(), -1;
        for (size_t i = 0; i < e->seen.capacity; i++) {
            PyObject *old = e->seen.slots[i];
            if (!old) continue;
            size_t at = ((uintptr_t)old >> 4) * 0x9E3779B1u & (capacity - 1);
            while (slots[at]) at = (at + 1) & (capacity - 1);
            slots[at] = old;
        }
        free(e->seen.slots);
        e->seen.slots = slots;
        e->seen.capacity = capacity;
    }
    size_t mask = e->seen.capacity - 1, at = ((uintptr_t)o >> 4) * 0x9E3779B1u & mask;
    for (; e->seen.slots[at]; at = (at + 1) & mask)
        if (e->seen.slots[at] == o) return 1;
    e->seen.slots[at] = o;
    e->seen.used++;
    return 0;
}

int is_enclosing(Encoder *e, PyObject *o) {
    for (const struct enclosing *level = e->enclosing; level; level = level->outer)
        if (level->container == o) return 1;
    return 0;
}

int refuse_seen(Encoder *e, PyObject *o) {
    return refuse(PyExc_ValueError,
                  is_enclosing(e, o) ? "a cycle: this %U contains itself"
                                     : "this %U is in the value twice; send a copy in one of the places",
                  o);
}

int check_not_seen(Encoder *e, PyObject *o) {
    if (!e->shared && !has_other_holders(o)) return 0;
    int seen = add(e, o);
    return seen > 0 ? refuse_seen(e, o) : seen;
}
