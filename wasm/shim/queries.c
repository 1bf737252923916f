/* SQLite asks after some thousand steps whether to go on with a query, and a notice of the host ends it. What then is SQLite's
   error "interrupted" becomes the notice's exception. A progress handler of the node's own takes the place of this one. */
#include "queries.h"
#include "notice.h"
#include <sqlite3.h>

enum { STEPS = 10000 };

static int is_stopped(void *nothing) { return notice_pending(); }
static int opened(sqlite3 *db, const char **error, const struct sqlite3_api_routines *routines) {
    sqlite3_progress_handler(db, STEPS, is_stopped, NULL);
    return SQLITE_OK;
}
void queries_init(void) { sqlite3_auto_extension((void (*)(void))opened); }

/* CPython's _sqlite calls this to raise an error of SQLite's. Its own function has another name (cpython/objects.toml). */
extern int cpython_sqlite_error(void *state, sqlite3 *db);
int _pysqlite_seterror(void *state, sqlite3 *db) {
    if (sqlite3_errcode(db) == SQLITE_INTERRUPT && PyErr_CheckSignals() < 0) return SQLITE_INTERRUPT;
    return cpython_sqlite_error(state, db);
}
