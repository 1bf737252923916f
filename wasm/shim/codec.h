/* The guest's CBOR codec: docs/reference/wire.md to and from Python objects, in one pass. */
#ifndef CLOCHE_CODEC_H
#define CLOCHE_CODEC_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Adds the type Block to the module: malloc'ed memory as a writable buffer, freed when the object dies. */
int codec_init(PyObject *module);

/* Sets the hooks for types and tags that C does not know; NULL keeps the one that is set.
   encode(object) -> (tag or None, substitute): what to send in place of the object. A list or tuple under a tag becomes a CBOR
   array; the content of a typed array, and the last item of NDARRAY and OPAQUE, may be any contiguous buffer.
   decode(tag, content) -> object: the reverse. CBOR arrays arrive as lists.
   A TypeError or ValueError of a hook is reported like the codec's own. */
int codec_set_hooks(PyObject *encode, PyObject *decode);

/* reply_bytes limits one message with all bodies beside it, nodes its items, depth the nesting of containers. */
void codec_set_limits(size_t reply_bytes, uint32_t nodes, uint32_t depth);
size_t codec_reply_bytes(void);

/* Decodes one item of exactly n bytes; a new reference, or NULL with ValueError, TypeError or MemoryError.
   codec_decode is for messages of the host: it becomes the owner of every block that a BYTES_AT, TEXT_AT or BODY_AT names, also
   when it fails. codec_decode_inline is for bytes of any origin: it refuses those tags. */
PyObject *codec_decode(const uint8_t *p, size_t n);
PyObject *codec_decode_inline(const uint8_t *p, size_t n);

/* Encodes o; the bytes at *p are valid until the next encode. -1 with an exception whose message begins with the
   path of the offending value: `root` and what leads on from there, as in result.filters[3].fn.
   Except IN_LINE, large bodies stay where they are, and are kept alive until codec_release or codec_release_since.
   A REPLY is [number, value]; `root` is then the name of the value. */
enum codec_form { IN_LINE, REPLY, REQUEST };
int codec_encode(PyObject *o, enum codec_form form, const char *root, const uint8_t **p, size_t *n);

/* Encodes a value now, for a reply that is encoded later: a new reference to a Written, which then stands for the value as it was.
   NULL with an exception as of codec_encode. */
PyObject *codec_written(PyObject *o);

/* Lets go of what encodes have kept alive: all of it, or what was kept since codec_kept returned that number. */
void codec_release(void);
size_t codec_kept(void);
void codec_release_since(size_t kept);

#endif
