/* Where the blocks lie that a sandbox writes to soon after its start; see layout.c. */
#ifndef CLOCHE_LAYOUT_H
#define CLOCHE_LAYOUT_H
void layout_begin(void);
void layout_end(void);
#endif
