#include "CCurlAuthorities.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// Of curl/curl.h, whose numbers never change: CURLOPT_CAINFO, CURLOPT_CAPATH and the same for a proxy that speaks TLS;
// CURLM_INTERNAL_ERROR.
enum { CAINFO = 10065, CAPATH = 10097, PROXY_CAINFO = 10246, PROXY_CAPATH = 10247, INTERNAL_ERROR = 4 };

static char *trusted_file, *trusted_folder;

void trust_authorities(const char *file, const char *folder) {
    trusted_file = file ? strdup(file) : NULL;
    trusted_folder = folder ? strdup(folder) : NULL;
}

static void *find(const char *name) {
    void *library = dlopen("libcurl.so.4", RTLD_NOW);
    return library ? dlsym(library, name) : NULL;
}

// In place of libcurl's function of this name: the program's own symbols come before its libraries'. URLSession has set all of
// its options when it hands a transfer over, so that what is set here counts.
int curl_multi_add_handle(void *transfers, void *transfer) {
    int (*add)(void *, void *) = (int (*)(void *, void *))find("curl_multi_add_handle");
    int (*set)(void *, int, ...) = (int (*)(void *, int, ...))find("curl_easy_setopt");
    if (!add || !set) return INTERNAL_ERROR;
    // An old libcurl does not know the proxy's, and does without.
    if (trusted_file) {
        set(transfer, CAINFO, trusted_file);
        set(transfer, PROXY_CAINFO, trusted_file);
    }
    if (trusted_folder) {
        set(transfer, CAPATH, trusted_folder);
        set(transfer, PROXY_CAPATH, trusted_folder);
    }
    return add(transfers, transfer);
}
