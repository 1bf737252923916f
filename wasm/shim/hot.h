/* HOT marks variables that every sandbox writes to. Lying side by side, they share pages: each page of the image that a sandbox
   writes to costs it a fault and 4 KiB of its own (copy on write). AFTER_HOT is for what lies best right behind them. */
#ifndef CLOCHE_HOT_H
#define CLOCHE_HOT_H
#define HOT __attribute__((section("hot")))
#define AFTER_HOT __attribute__((section("hot_room")))
#endif
