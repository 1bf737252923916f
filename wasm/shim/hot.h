/* Variables that every sandbox writes to: they lie beside each other, so that they share pages of the copy-on-write image. */
#ifndef CLOCHE_HOT_H
#define CLOCHE_HOT_H
#define HOT __attribute__((section("hot")))
#define AFTER_HOT __attribute__((section("hot_room")))
#endif
