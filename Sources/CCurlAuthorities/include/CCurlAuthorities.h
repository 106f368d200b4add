// Whose certificates libcurl trusts in this process. Foundation's URLSession, which makes all requests, has no way to say it on
// Linux, and libcurl itself reads none of the variables that the program curl reads.
#pragma once

// From now on every transfer trusts the authorities in the PEM file and in the folder (by hash) as well as those of libcurl's own that
// they do not replace; NULL leaves libcurl's own. Called once, before the first transfer.
void trust_authorities(const char *file, const char *folder);
