/* A program of its own, besides the image: CPython without any Python module, which compiles source text to marshalled code. The
   build freezes the standard library with it, so that it needs no native CPython of the same version. */
#include "boot.h"
#include "output.h"
#include <marshal.h>

static const struct _frozen none[] = {{0}};
static const struct _module_alias no_alias[] = {{0}};
const struct _frozen *_PyImport_FrozenBootstrap = none, *_PyImport_FrozenStdlib = none, *_PyImport_FrozenTest = none,
                     *PyImport_FrozenModules = NULL;
const struct _module_alias *_PyImport_FrozenAliases = no_alias;

static char said[4096]; /* what was written to stdout and stderr: the build shows it if compiling fails */
static size_t said_bytes;

void output_write(int fd, const uint8_t *p, size_t n) {
    if (n > sizeof said - said_bytes) n = sizeof said - said_bytes;
    memcpy(said + said_bytes, p, n);
    said_bytes += n;
}

EXPORT(image_init) void image_init(void) {
    boot_preinit();
    PyConfig c;
    PyConfig_InitIsolatedConfig(&c);
    c.site_import = 0, c.use_hash_seed = 1, c.hash_seed = 0;
    c._install_importlib = 0, c._init_main = 0; /* no module is frozen yet, not even importlib */
    boot_check("initialise", Py_InitializeFromConfig(&c));
    PyConfig_Clear(&c);
}
EXPORT(freezer_alloc) void *freezer_alloc(uint32_t n) { return malloc(n); }
EXPORT(freezer_said) uint64_t freezer_said(void) { return (uint64_t)(uintptr_t)said << 32 | said_bytes; }

/* Both strings are NUL-terminated UTF-8. Returns address << 32 | length of the marshalled code, or 0 after an error, whose text
   is then at freezer_said. */
EXPORT(freezer_compile) uint64_t freezer_compile(const char *source, const char *filename) {
    PyCompilerFlags flags = _PyCompilerFlags_INIT;
    flags.cf_flags = PyCF_IGNORE_COOKIE;
    PyObject *name = PyUnicode_FromString(filename);
    PyObject *code = name ? Py_CompileStringObject(source, name, Py_file_input, &flags, 0) : NULL;
    PyObject *bytes = code ? PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION) : NULL;
    if (bytes) return (uint64_t)(uintptr_t)PyBytes_AS_STRING(bytes) << 32 | (uint32_t)PyBytes_GET_SIZE(bytes);
    PyObject *error = PyErr_GetRaisedException(), *text = error ? PyObject_Str(error) : NULL;
    const char *s = text ? PyUnicode_AsUTF8(text) : "no memory";
    said_bytes = 0;
    output_write(2, (const uint8_t *)s, strlen(s));
    return 0;
}
