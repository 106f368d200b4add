// The functions of libcurl that the Hub client calls, loaded from libcurl.so.4 at run time. Names, numbers and
// signatures never change within libcurl.so.4. So this file declares them, and libcurl's headers are not needed.
// Source: curl/curl.h, curl/multi.h, curl/urlapi.h. libcurl 7.68 has everything in this file, unless a comment names
// a later version.
#pragma once
#include <stddef.h>

typedef struct curl_easy *curl_easy;    // CURL *: a transfer
typedef struct curl_multi *curl_multi;  // CURLM *: a set of transfers, with connections for reuse
typedef struct curl_list *curl_list;    // struct curl_slist *: lines of text
typedef struct curl_parts *curl_parts;  // CURLU *: the parts of a URL

// A function that libcurl calls with one line of the head or one piece of the body, which has `count` bytes; `size`
// is always 1. Any other return value than `count` ends the transfer.
typedef size_t (*curl_receiver)(char *bytes, size_t size, size_t count, void *user);

// The errors of transfers (CURLcode) that the client distinguishes. 0 is success, also in CURLMcode and CURLUcode.
typedef enum {
    CURLE_UNSUPPORTED_PROTOCOL = 1,
    CURLE_COULDNT_RESOLVE_PROXY = 5,
    CURLE_COULDNT_RESOLVE_HOST = 6,
    CURLE_COULDNT_CONNECT = 7,
    CURLE_WEIRD_SERVER_REPLY = 8,
    CURLE_PARTIAL_FILE = 18,
    CURLE_OUT_OF_MEMORY = 27,
    CURLE_OPERATION_TIMEDOUT = 28,
    CURLE_GOT_NOTHING = 52,
    CURLE_SEND_ERROR = 55,
    CURLE_RECV_ERROR = 56,
    CURLE_TOO_LARGE = 100,
} curl_code;

// Options of a transfer (CURLOPT_…). libcurl copies texts. It does not copy the receivers' user pointer, the list of
// headers and the error buffer, so the caller must keep these until the transfer has ended.
typedef enum {
    CURLOPT_NOBODY = 44,
    CURLOPT_NETRC = 51,
    CURLOPT_FOLLOWLOCATION = 52,
    CURLOPT_SSL_VERIFYPEER = 64,
    CURLOPT_SSL_VERIFYHOST = 81,
    CURLOPT_HTTP_VERSION = 84,
    CURLOPT_BUFFERSIZE = 98,
    CURLOPT_NOSIGNAL = 99,
    CURLOPT_CONNECTTIMEOUT_MS = 156,
    CURLOPT_PROTOCOLS = 181,
    CURLOPT_HEADEROPT = 229,
    CURLOPT_PATH_AS_IS = 234,
    CURLOPT_SUPPRESS_CONNECT_HEADERS = 265,
    CURLOPT_HTTP09_ALLOWED = 285,
    CURLOPT_QUICK_EXIT = 322,  // from 7.87
    CURLOPT_WRITEDATA = 10001,
    CURLOPT_URL = 10002,
    CURLOPT_PROXY = 10004,
    CURLOPT_ERRORBUFFER = 10010,
    CURLOPT_HTTPHEADER = 10023,
    CURLOPT_HEADERDATA = 10029,
    CURLOPT_CAINFO = 10065,
    CURLOPT_CAPATH = 10097,
    CURLOPT_PROXYUSERNAME = 10175,
    CURLOPT_PROXYPASSWORD = 10176,
    CURLOPT_NOPROXY = 10177,
    CURLOPT_PROXY_CAINFO = 10246,
    CURLOPT_PROXY_CAPATH = 10247,
    CURLOPT_WRITEFUNCTION = 20011,
    CURLOPT_HEADERFUNCTION = 20079,
} curl_option;

// Values of options (CURLPROTO_…, CURL_HTTP_VERSION_…, CURLHEADER_…). CURL_ERROR_SIZE is the size of the error buffer
// in bytes.
enum { CURLPROTO_HTTP = 1, CURLPROTO_HTTPS = 2, CURL_HTTP_VERSION_1_1 = 2, CURLHEADER_SEPARATE = 1, CURL_ERROR_SIZE = 256 };

// Parts of a URL (CURLUPART_…), and flags for reading it (CURLU_…).
typedef enum {
    CURLUPART_URL = 0,
    CURLUPART_SCHEME = 1,
    CURLUPART_USER = 2,
    CURLUPART_PASSWORD = 3,
    CURLUPART_HOST = 5,
    CURLUPART_PORT = 6,
} curl_part;
enum { CURLU_DEFAULT_PORT = 1, CURLU_PATH_AS_IS = 1 << 7 };

// Loads and initializes libcurl at the first call. Returns NULL, or the problem as the end of a sentence: "is not
// installed". Call other functions only after this function has returned NULL.
const char *ccurl_load(void);

curl_easy ccurl_easy_init(void);
void ccurl_easy_cleanup(curl_easy easy);
int ccurl_set_number(curl_easy easy, curl_option option, long value);
int ccurl_set_text(curl_easy easy, curl_option option, const char *value);
int ccurl_set_pointer(curl_easy easy, curl_option option, void *value);
int ccurl_set_list(curl_easy easy, curl_option option, curl_list value);
int ccurl_set_receiver(curl_easy easy, curl_option option, curl_receiver value);
// Returns the HTTP status of a proxy's answer to CONNECT; 0 if no proxy has answered.
long ccurl_connect_status(curl_easy easy);
const char *ccurl_easy_strerror(int code);

curl_multi ccurl_multi_init(void);
void ccurl_multi_cleanup(curl_multi multi);
int ccurl_multi_add_handle(curl_multi multi, curl_easy easy);
int ccurl_multi_remove_handle(curl_multi multi, curl_easy easy);
int ccurl_multi_perform(curl_multi multi, int *running);
// Waits until a transfer of `multi` can continue, until `ccurl_multi_wakeup` is called, or for `milliseconds`.
int ccurl_multi_wait(curl_multi multi, int milliseconds);
// Ends a wait in `ccurl_multi_wait`. During a wait, other threads may call only this function for `multi`.
int ccurl_multi_wakeup(curl_multi multi);
// Returns the CURLcode with which the transfer of `multi` has ended; -1 if it has not ended.
int ccurl_multi_result(curl_multi multi);

// Appends `text` to `list` and returns the list; NULL if memory is short.
curl_list ccurl_list_append(curl_list list, const char *text);
void ccurl_list_free(curl_list list);

curl_parts ccurl_parts_init(void);
void ccurl_parts_free(curl_parts parts);
int ccurl_parts_set(curl_parts parts, curl_part part, const char *text, unsigned flags);
// Writes the text of a part to `text`; the caller frees it with ccurl_free. Returns a nonzero code if the URL lacks
// the part.
int ccurl_parts_get(curl_parts parts, curl_part part, char **text, unsigned flags);
void ccurl_free(void *memory);
