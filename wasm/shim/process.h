/* See process.c. */
#ifndef CLOCHE_PROCESS_H
#define CLOCHE_PROCESS_H

void process_begin(void); /* the node is being loaded */

#endif
