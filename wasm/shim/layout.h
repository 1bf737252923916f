/* Chooses, while the image is built, where blocks lie that every sandbox writes to; see layout.c. */
#ifndef CLOCHE_LAYOUT_H
#define CLOCHE_LAYOUT_H
void layout_begin(void);
void layout_end(void);
#endif
