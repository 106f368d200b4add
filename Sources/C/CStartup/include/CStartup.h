// What has to happen before the libraries that the program is linked to begin, and what is seen then.

#ifndef CSTARTUP_H
#define CSTARTUP_H

// The process' arguments, its own name first. Swift's CommandLine reads them from /proc, which may not be there.
int startup_argument_count(void);
const char *_Nonnull startup_argument(int index);

#endif
