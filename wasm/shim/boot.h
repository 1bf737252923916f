/* The start of CPython, for the image and for the freezer. It also defines what the objects Python/frozen.o and Modules/getpath.o
   would, which are not linked. */
#ifndef CLOCHE_BOOT_H
#define CLOCHE_BOOT_H
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#include "wire/abi.h"
#include "pycore_import.h"
#include "pycore_pathconfig.h"
#include "wasi.h"

#define EXPORT(name) __attribute__((export_name(#name), used))

/* Computes no path: each is set before Py_InitializeFromConfig. */
PyStatus _PyConfig_InitPathConfig(PyConfig *config, int compute_path_config) { return PyStatus_Ok(); }

static _Noreturn void boot_fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    wasi_exit(EXIT_INIT);
}
static void boot_check(const char *what, PyStatus status) {
    if (PyStatus_Exception(status)) boot_fail(what, status.err_msg ? status.err_msg : "failed");
}
static void boot_preinit(void) {
    PyPreConfig config;
    PyPreConfig_InitIsolatedConfig(&config);
    config.utf8_mode = 1;
    boot_check("preinitialise", Py_PreInitialize(&config));
}
#endif
