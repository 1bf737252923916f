/* SQLite in the image.

   It asks after some thousand steps whether to go on with a query, and a notice of the host ends it. What then is SQLite's error
   "interrupted" becomes the notice's exception. A progress handler of the node's own takes the place of this one.

   Its connections lock their files against each other. The C library cannot lock against other programs: that always succeeds. */
#include "queries.h"
#include "notice.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>

enum { STEPS = 10000 };
enum { GETLK = 12, SETLK = 13, SETLKW = 14, UNLCK = 2 }; /* SQLite's numbers where the C library has none */

static int is_stopped(void *nothing) { return notice_pending(); }
static int opened(sqlite3 *db, const char **error, const struct sqlite3_api_routines *routines) {
    sqlite3_progress_handler(db, STEPS, is_stopped, NULL);
    return SQLITE_OK;
}
static int control(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (command == GETLK) ((struct flock *)argument)->l_type = UNLCK;
    return command >= GETLK && command <= SETLKW ? 0 : fcntl(fd, command, argument);
}
void queries_init(void) {
    sqlite3_auto_extension((void (*)(void))opened);
    sqlite3_vfs *unix_files = sqlite3_vfs_find("unix");
    unix_files->xSetSystemCall(unix_files, "fcntl", (sqlite3_syscall_ptr)control);
    sqlite3_vfs_register(unix_files, 1);
}

/* CPython's _sqlite calls this to raise an error of SQLite's. Its own function has another name (cpython/objects.toml). */
extern int cpython_sqlite_error(void *state, sqlite3 *db);
int _pysqlite_seterror(void *state, sqlite3 *db) {
    if (sqlite3_errcode(db) == SQLITE_INTERRUPT && PyErr_CheckSignals() < 0) return SQLITE_INTERRUPT;
    return cpython_sqlite_error(state, db);
}
