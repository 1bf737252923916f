/* The encoder's state and its parts: bytes out (write.c), containers met (seen.c), the way to a value (path.c), the walk
   (encode.c). */
#ifndef CLOCHE_ENCODE_H
#define CLOCHE_ENCODE_H
#include "codec_parts.h"

/* The containers enclosing the value that is being encoded, innermost first. */
struct enclosing {
    PyObject *container;
    const struct enclosing *out;
};

typedef struct {
    uint8_t *bytes;
    size_t length, capacity;
    size_t outside; /* bytes of this message that stay where they are */
    enum codec_form form;
    int out_of_line; /* whether a large body may stay where it is; off inside a tag whose parts are in line */
    int shared;      /* inside something that more than one container holds */
    uint32_t depth;
    int substitutes; /* hooks in a row that gave a substitute without a tag */
    const struct enclosing *enclosing;
    struct {
        PyObject **slots;
        size_t capacity, used;
    } seen;                 /* mutable containers met so far, of those that may be met again */
    PyObject *answers;      /* of the hook, as far as they must live on */
    PyObject *error, *path; /* once a value was refused: the exception, and the way to it, innermost first */
} Encoder;

/* seen.c */
int refuse(PyObject *kind, const char *format, PyObject *o); /* an error about o; %U in the format is its type's name */
int is_enclosing(Encoder *e, PyObject *o);
int refuse_seen(Encoder *e, PyObject *o);
int check_not_seen(Encoder *e, PyObject *o); /* a mutable container; -1 if it was met before */

/* The caller holds one reference beside the container's. With no third one, nothing else leads to the object. */
static inline int has_other_holders(PyObject *o) { return Py_REFCNT(o) > 2; }

/* write.c */
int write_head(Encoder *e, int major, uint64_t value);
int write_bytes(Encoder *e, const void *p, size_t n);
int write_float(Encoder *e, double value);
int write_int(Encoder *e, PyObject *o);
int write_string(Encoder *e, int major, const void *p, size_t n); /* head and bytes */
int write_text(Encoder *e, PyObject *o, int key);                 /* key: always in line */
int write_byte_string(Encoder *e, PyObject *o, uint64_t tag);     /* any contiguous buffer; tag: the one if out of line */
int is_plain_key(PyObject *o);                                    /* an exact str without surrogates */
size_t kept_count(void);                                          /* objects kept alive because a message points into them */
void kept_drop(size_t count);                                     /* the last ones, until `count` are left */

/* path.c */
void path_add(Encoder *e, PyObject *step); /* a new reference: index or key; NULL: an item without a name */
void path_add_index(Encoder *e, Py_ssize_t index);
void path_content(Encoder *e, uint64_t tag, PyObject *content); /* turns steps into a tag's content into steps of Python */
void path_raise(Encoder *e, const char *root);

#endif
