/* Live records: a host that wants the records of a call while it runs sets the word `live` (NOTICE_WORDS) before it. */
#ifndef CLOCHE_LIVE_H
#define CLOCHE_LIVE_H

int live_wanted(void);
void live_tell(void); /* after a record was put into the ring: let the host take it, if it wants to */

#endif
