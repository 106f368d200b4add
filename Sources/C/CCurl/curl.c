// Loads libcurl's functions into a table. Does two things that Swift cannot do: call variadic functions, and read a
// union.
#include "CCurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

enum { CURL_GLOBAL_DEFAULT = 3, CURLINFO_HTTP_CONNECTCODE = 0x200000 + 22, CURLMSG_DONE = 1 };

// libcurl's struct CURLMsg.
struct message {
    int kind;
    curl_easy easy;
    union {
        void *whatever;
        int result;
    } data;
};

// X(result, name, parameters) for each function that is loaded.
#define FUNCTIONS(X)                                                                      \
    X(int, curl_global_init, (long flags))                                                \
    X(curl_easy, curl_easy_init, (void))                                                  \
    X(void, curl_easy_cleanup, (curl_easy))                                               \
    X(int, curl_easy_setopt, (curl_easy, int, ...))                                       \
    X(int, curl_easy_getinfo, (curl_easy, int, ...))                                      \
    X(const char *, curl_easy_strerror, (int))                                            \
    X(curl_multi, curl_multi_init, (void))                                                \
    X(int, curl_multi_cleanup, (curl_multi))                                              \
    X(int, curl_multi_add_handle, (curl_multi, curl_easy))                                \
    X(int, curl_multi_remove_handle, (curl_multi, curl_easy))                             \
    X(int, curl_multi_perform, (curl_multi, int *))                                       \
    X(int, curl_multi_poll, (curl_multi, void *, unsigned, int, int *))                   \
    X(int, curl_multi_wakeup, (curl_multi))                                               \
    X(struct message *, curl_multi_info_read, (curl_multi, int *))                        \
    X(curl_list, curl_slist_append, (curl_list, const char *))                            \
    X(void, curl_slist_free_all, (curl_list))                                             \
    X(curl_parts, curl_url, (void))                                                       \
    X(void, curl_url_cleanup, (curl_parts))                                               \
    X(int, curl_url_set, (curl_parts, int, const char *, unsigned))                       \
    X(int, curl_url_get, (curl_parts, int, char **, unsigned))                            \
    X(void, curl_free, (void *))

#define MEMBER(result, name, arguments) result(*name) arguments;
static struct { FUNCTIONS(MEMBER) } curl;

static char problem[128];

static void load(void) {
    void *library = dlopen("libcurl.so.4", RTLD_NOW);
    if (!library) {
        snprintf(problem, sizeof problem, "is not installed");
        return;
    }
#define FILL(result, name, arguments)                                                                    \
    *(void **)&curl.name = dlsym(library, #name);                                                        \
    if (!curl.name) {                                                                                    \
        snprintf(problem, sizeof problem, "is older than 7.68: it has no function %s", #name);           \
        return;                                                                                          \
    }
    FUNCTIONS(FILL)
    int code = curl.curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code) snprintf(problem, sizeof problem, "does not start: %s", curl.curl_easy_strerror(code));
}

const char *ccurl_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return problem[0] ? problem : NULL;
}

curl_easy ccurl_easy_init(void) { return curl.curl_easy_init(); }

void ccurl_easy_cleanup(curl_easy easy) { curl.curl_easy_cleanup(easy); }

int ccurl_set_number(curl_easy easy, curl_option option, long value) { return curl.curl_easy_setopt(easy, option, value); }

int ccurl_set_text(curl_easy easy, curl_option option, const char *value) { return curl.curl_easy_setopt(easy, option, value); }

int ccurl_set_pointer(curl_easy easy, curl_option option, void *value) { return curl.curl_easy_setopt(easy, option, value); }

int ccurl_set_list(curl_easy easy, curl_option option, curl_list value) { return curl.curl_easy_setopt(easy, option, value); }

int ccurl_set_receiver(curl_easy easy, curl_option option, curl_receiver value) { return curl.curl_easy_setopt(easy, option, value); }

long ccurl_connect_status(curl_easy easy) {
    long status = 0;
    return curl.curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status) ? 0 : status;
}

const char *ccurl_easy_strerror(int code) { return curl.curl_easy_strerror(code); }

curl_multi ccurl_multi_init(void) { return curl.curl_multi_init(); }

void ccurl_multi_cleanup(curl_multi multi) { curl.curl_multi_cleanup(multi); }

int ccurl_multi_add_handle(curl_multi multi, curl_easy easy) { return curl.curl_multi_add_handle(multi, easy); }

int ccurl_multi_remove_handle(curl_multi multi, curl_easy easy) { return curl.curl_multi_remove_handle(multi, easy); }

int ccurl_multi_perform(curl_multi multi, int *running) { return curl.curl_multi_perform(multi, running); }

int ccurl_multi_wait(curl_multi multi, int milliseconds) { return curl.curl_multi_poll(multi, NULL, 0, milliseconds, NULL); }

int ccurl_multi_wakeup(curl_multi multi) { return curl.curl_multi_wakeup(multi); }

int ccurl_multi_result(curl_multi multi) {
    int left;
    struct message *message;
    while ((message = curl.curl_multi_info_read(multi, &left))) {
        if (message->kind == CURLMSG_DONE) return message->data.result;
    }
    return -1;
}

curl_list ccurl_list_append(curl_list list, const char *text) { return curl.curl_slist_append(list, text); }

void ccurl_list_free(curl_list list) { curl.curl_slist_free_all(list); }

curl_parts ccurl_parts_init(void) { return curl.curl_url(); }

void ccurl_parts_free(curl_parts parts) { curl.curl_url_cleanup(parts); }

int ccurl_parts_set(curl_parts parts, curl_part part, const char *text, unsigned flags) {
    return curl.curl_url_set(parts, part, text, flags);
}

int ccurl_parts_get(curl_parts parts, curl_part part, char **text, unsigned flags) {
    return curl.curl_url_get(parts, part, text, flags);
}

void ccurl_free(void *memory) { curl.curl_free(memory); }
