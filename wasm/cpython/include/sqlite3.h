/* SQLite's header, and what CPython's configure would have found of it. */
#include_next <sqlite3.h>
#define PY_SQLITE_HAVE_SERIALIZE 1
