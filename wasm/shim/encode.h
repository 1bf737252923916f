/* The encoder's state, and its parts: encode.c walks a value, write.c writes its bytes, path.c says which value
   was refused. */
#ifndef CLOCHE_ENCODE_H
#define CLOCHE_ENCODE_H
#include "codec_parts.h"

/* The containers enclosing the value that is being encoded, innermost first. */
struct enclosing {
    PyObject *container;
    const struct enclosing *outer;
};

typedef struct {
    uint8_t *bytes;
    size_t length, capacity;
    size_t outside;            /* bytes of bodies that the message points to instead of having them */
    uint32_t nodes, max_nodes; /* items so far, counted as check.c counts them */
    enum codec_form form;
    int out_of_line; /* whether a large body may stay where it is: not inside a tag whose parts must be in line */
    uint32_t depth;
    int substitutes; /* how often in a row the hook has given a substitute without a tag */
    const struct enclosing *enclosing;
    PyObject *bodies; /* of a Written: a list of the objects that hold the large bodies; else NULL, and they are kept (write.c) */
    PyObject *error, *path; /* once a value was refused: the exception, and the path to it, innermost step first */
} Encoder;

/* path.c, refusals; all return -1 where they return something */
int refuse(PyObject *kind, const char *format, PyObject *o); /* raise an error about o; %U in the format is its type's name */
void path_add(Encoder *e, PyObject *step); /* a step further out: index or key, a new reference; NULL: an item without a name */
void path_add_index(Encoder *e, Py_ssize_t index);
void path_content(Encoder *e, uint64_t tag, PyObject *content); /* turn steps into a tag's content into steps of Python */
void path_raise(Encoder *e, const char *root);                  /* raise the error again, with the path in its message */

/* write.c */
int room_for(Encoder *e, uint64_t more); /* whether so many items more are within value_nodes: else refuses */
int write_head(Encoder *e, int major, uint64_t value);
int write_bytes(Encoder *e, const void *p, size_t n);
int write_float(Encoder *e, double value);
int write_int(Encoder *e, PyObject *o);
int write_string(Encoder *e, int major, const void *p, size_t n); /* head and bytes */
int write_text(Encoder *e, PyObject *o, int key);                 /* key: always in line */
/* Any contiguous buffer; `tag` stands before its place if it stays where it is. */
int write_byte_string(Encoder *e, PyObject *o, uint64_t tag);
int hold_body(Encoder *e, PyObject *o); /* keep alive an object that a message points into */
int is_plain_key(PyObject *o);          /* an exact str without surrogates */
size_t kept_count(void);                /* how many objects are kept alive because messages point into them */
void kept_drop(size_t count);           /* let go of the last ones, until `count` are left */

/* written.c */
int written_init(void);
int is_written(PyObject *o);
PyObject *written_new(const Encoder *e); /* of what the encoder has written */
int write_written(Encoder *e, PyObject *o);

#endif
