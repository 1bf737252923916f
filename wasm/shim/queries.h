/* Queries of SQLite heed a deadline. */
#ifndef CLOCHE_QUERIES_H
#define CLOCHE_QUERIES_H

void queries_init(void); /* before the snapshot */

#endif
