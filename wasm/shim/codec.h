/* The guest's CBOR codec: docs/wire.md to and from Python objects, in one pass. */
#ifndef CLOCHE_CODEC_H
#define CLOCHE_CODEC_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Adds the type Block to the module: malloc'ed memory as a writable buffer, freed when the object dies. */
int codec_init(PyObject *module);

/* encode(object) -> (tag or None, substitute): how to send a type that C does not know. A list or tuple under a tag
   becomes a CBOR array; the content of a typed array, and the last item of NDARRAY, may be any contiguous buffer.
   decode(tag, content) -> object: the reverse, for every tag that C does not know; arrays arrive as lists.
   A TypeError or ValueError of the hooks becomes the codec's own. NULL keeps the hook that is there. */
int codec_set_hooks(PyObject *encode, PyObject *decode);

/* reply_bytes bounds what one encode may send, in the message and beside it; depth bounds nested containers. */
void codec_set_limits(size_t reply_bytes, uint32_t depth);

/* One item, exactly n bytes; a new reference, or NULL with ValueError, TypeError or MemoryError.
   codec_decode is for requests: it takes every block that a BYTES_AT, TEXT_AT or BODY_AT names, also when it fails.
   codec_decode_inline is for bytes that anybody may have made: it refuses those tags. */
PyObject *codec_decode(const uint8_t *p, size_t n);
PyObject *codec_decode_inline(const uint8_t *p, size_t n);

/* Encodes o; the bytes at *p are valid until the next encode. -1 with an exception whose message begins with the
   path of the offending value: `root` and what leads on from there, as in result.filters[3].fn.
   With out_of_line, o is a reply [number, value], root is the value's name, and large bodies stay where they are, kept
   alive until codec_release. */
int codec_encode(PyObject *o, int out_of_line, const char *root, const uint8_t **p, size_t *n);

/* Drops what the last out-of-line encode kept alive. */
void codec_release(void);

#endif
