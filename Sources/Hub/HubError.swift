// The errors of this module. Each error text names the next step for the user.

/// Why a repository, or a file of a repository, is not available.
package enum HubError: Error, Equatable, CustomStringConvertible {
    /// The value of an environment variable, or the content of a file, cannot be used.
    case badSetting(_ name: String, _ reason: String)
    /// The folder of the cache is unknown: no variable names it, and the system knows no home folder of this user.
    case noHome(user: Int)
    /// The repository is gated, and no token was given. `unreadable` names a token file that cannot be read, with the
    /// reason; nil if no such file exists.
    case gatedWithoutToken(RepositoryReference, page: String, unreadable: String?)
    /// The repository is gated, and the account of the token has no access.
    case gatedForToken(RepositoryReference, page: String, tokenSource: String)
    /// The Hub does not accept the token.
    case invalidToken(source: String)
    /// The repository does not exist, or the Hub hides it from this user. `isHubs` is false if another server may
    /// have responded instead of the Hub.
    case noRepository(
        RepositoryReference, page: String, tokenSource: String?, unreadable: String?, isHubs: Bool)
    /// The repository does not have the requested revision.
    case noRevision(RepositoryReference, page: String)
    /// The revision's commit has disappeared from the Hub during the run.
    case changed(RepositoryReference)
    /// The repository does not have the requested file.
    case noFile(RepositoryReference, file: String, page: String)
    /// The Hub responds, but has no list of the commit's files at `address`.
    case noListing(RepositoryReference, address: String, endpoint: String)
    /// `host` cannot be reached. `sender` names the hosts that redirected the request to `host`; nil if none did.
    case unreachable(host: String, sender: String?, reason: String)
    /// `host` asks for a token, but `host` is not the Hub. `sender` redirected the request to `host`.
    case tokenNotSent(
        RepositoryReference, host: String, sender: String, status: Int, hasToken: Bool)
    /// The server refuses requests for some time. `seconds` is the wait that it asks for; nil if it asks for none.
    case rateLimited(endpoint: String, seconds: Int?, hasToken: Bool)
    /// `host` refused the request for an unknown reason. For `sender` see `unreachable`.
    case refused(
        what: String, host: String, sender: String?, status: Int, message: String)
    /// The endpoint's response is not that of a Hub.
    case notAHub(endpoint: String, reason: String)
    /// The content of `file` was wrong in two downloads. `mirror` is the endpoint from `HF_ENDPOINT`, if set.
    case damaged(
        RepositoryReference, file: String, expected: String, got: String, mirror: String?)
    /// The content of a large file cannot be checked: the listing has no SHA-256, and git's id of the content is not
    /// the listed id.
    case noDigest(RepositoryReference, file: String, expected: String, endpoint: String)
    /// The downloads need `needed` bytes, but the file system of `directory` has only `free` bytes of free space.
    case diskFull(directory: String, needed: Int, free: Int)
    /// `file` is missing in the cache `directory` and cannot be added, for `reason`. `source` is what names this
    /// directory, such as a variable. `commit` is another commit whose wanted files are in the cache; nil if none
    /// exists.
    case cacheNotWritable(
        RepositoryReference, file: String, reason: String, directory: String, source: String,
        commit: String?)
    /// A file was removed from the cache while the download was running.
    case cleared(directory: String, file: String)
    /// `file` is in the cache, but its content, at `path`, does not have the expected digest.
    case damagedInCache(RepositoryReference, file: String, path: String)
    /// The cache lacks `file`, or the whole revision if `file` is nil, and the network is not used. `commit` is
    /// another commit whose files are in the cache; nil if none exists.
    case notCached(
        RepositoryReference, file: String?, reason: String, cache: String, command: String,
        unreadable: String?, commit: String?)
    /// The cache lacks `file`, or the whole revision if `file` is nil. Nothing can be downloaded, because this
    /// program was built without the Hub client, or because libcurl is missing.
    case noClient(RepositoryReference, file: String?, reason: String, cache: String)
    /// The dataset has no training files that this program can read.
    case noCorpus(RepositoryReference, reason: String, page: String)

    /// The text of the error: what is wrong, where, and the next step.
    package var description: String {
        switch self {
        case .badSetting(let name, let reason): "\(name): \(reason)"
        case .noHome(let user):
            "the cache's folder is not known: HF_HOME, XDG_CACHE_HOME and HOME are not set, and user \(user) has no home folder on this machine; set HF_HOME to a folder that you may write to"
        case .gatedWithoutToken(let repository, let page, let unreadable):
            "\(repository) is gated: visit \(page), accept its terms, and give a token of your account in HF_TOKEN (or by `hf auth login`)\(unreadable.map { "; the token file \($0)" } ?? "")"
        case .gatedForToken(let repository, let page, let source):
            "\(repository) is gated, and the account of the token from \(source) has no access: visit \(page) with that account and ask for access, or give another account's token in HF_TOKEN"
        case .invalidToken(let source):
            "the Hub does not accept the token from \(source): it has expired or is misspelt; make one at https://huggingface.co/settings/tokens and give it in HF_TOKEN"
        case .noRepository(let repository, let page, let source, let unreadable, _):
            "there is no \(repository.kind.rawValue) \(repository.id) at \(page)\(repository.revision == "main" ? "" : ", or it has no revision '\(repository.revision)'"), or it is private\(source.map { " and the token from \($0) has no access" } ?? " and no token was given"); check the spelling, or give a token in HF_TOKEN\(unreadable.map { "; the token file \($0)" } ?? "")"
        case .noRevision(let repository, let page):
            "\(repository.id) has no revision '\(repository.revision)'; see the branches and tags at \(page)/tree/main, and check the spelling"
        case .changed(let repository):
            "\(repository) has changed on the Hub while it was read; run the same command again"
        case .noFile(let repository, let file, let page):
            "\(repository) has no file \(file); see \(page)/tree/\(repository.revision), or give another revision"
        case .noListing(let repository, let address, let endpoint):
            "the list of \(repository)'s files does not exist at \(address) (404), although \(endpoint) names the commit: this mirror lacks the part of the Hub's API that lists files; unset HF_ENDPOINT, give another mirror, or download with `hf download` and give local paths"
        case .unreachable(let host, nil, let reason):
            "cannot reach \(host): \(reason); check the network, the proxy (https_proxy) and HF_ENDPOINT, or download on another machine and give local paths"
        case .unreachable(let host, let sender?, let reason):
            "cannot reach \(host): \(reason). \(sender) answered and redirects to \(host); make sure that this machine can reach \(host) too (firewall, https_proxy), or download on another machine and give local paths"
        case .tokenNotSent(let repository, let host, let sender, let status, let hasToken):
            "\(repository): \(host) asks for a token (\(status)). \(sender) redirects to it, but a token is sent only to the host of HF_ENDPOINT; set HF_ENDPOINT=\(host)\(hasToken ? "" : " and give a token in HF_TOKEN"), or use a mirror that does not redirect"
        case .rateLimited(let endpoint, let seconds, let hasToken):
            "\(endpoint) refuses more requests for now (429)\(seconds.map { "; it asks to wait \($0) seconds" } ?? "")\(hasToken ? "" : "; a token in HF_TOKEN raises the limit"). Run the same command again later; on a cluster, `sae-extract fetch` once and set HF_HUB_OFFLINE=1 in the jobs"
        case .refused(let what, let host, nil, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"); \(status == 407 ? "the proxy requires a user name and a password; set the variable of the proxy to http://USER:PASSWORD@HOST:PORT" : status >= 500 ? "run the same command again later" : "check HF_ENDPOINT and the token")"
        case .refused(let what, let host, let sender?, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"). \(sender) answered and redirects to this host; \(status >= 500 ? "run the same command again later" : "if the error repeats, check whether a firewall or a proxy (https_proxy) blocks this host, and whether this machine's clock is wrong")"
        case .notAHub(let endpoint, let reason):
            "\(endpoint) does not answer as a Hugging Face Hub: \(reason); check HF_ENDPOINT, and whether a proxy or a login page answers in its place"
        case .damaged(let repository, let file, let expected, let got, let mirror):
            "\(repository): \(file) was downloaded twice, and both times the content was wrong: expected \(expected), got \(got); try again later or without the proxy, \(mirror.map { "or without HF_ENDPOINT, because \($0) may change files" } ?? "and report it to the repository's owner if the error repeats")"
        case .noDigest(let repository, let file, let expected, let endpoint):
            "\(repository): \(file) cannot be checked: \(endpoint) lists no SHA-256 (lfs) for it, and the git id of the downloaded content is not \(expected); unset HF_ENDPOINT, give a mirror that does not change the Hub's list, or download with `hf download` and give local paths"
        case .diskFull(let directory, let needed, let free):
            "\(directory): the downloads need \(needed) bytes, but only \(free) bytes are free; free some space, or set HF_HOME to a larger file system (or use --ignore_free_space, if the file system reports too little free space)"
        case .cacheNotWritable(
            let repository, let file, let reason, let directory, let source, let commit):
            "\(file) of \(repository) must be added to the cache \(directory) (from \(source)), but nothing can be added to it: \(reason). Set HF_HOME to a folder that you may write to\(commit.map { ", or use the commit that is in the cache: give \($0) as the revision (\(repository.revisionFlags))" } ?? "")"
        case .cleared(let directory, let file):
            "\(directory): \(file) was removed from the cache during the download; run the same command again, and make sure that nothing is removed from the cache while it is in use"
        case .damagedInCache(let repository, let file, let path):
            "\(file) of \(repository) in the cache is damaged: the content of \(path) does not match its digest, because it was truncated or changed. Remove this file and run the same command with network\(repository.kind == .dataset ? ", or give the file in --data_path to read it as it is" : "")"
        case .notCached(
            let repository, let file, let reason, let cache, let command, let unreadable,
            let commit):
            "\(reason), and \(file.map { "\($0) of " } ?? "")\(repository) is not in the cache \(cache)\(unreadable.map { " as far as it can be read (\($0))" } ?? ""); on a machine with network that uses the same cache, run `\(command)`\(commit.map { ". The cache has it at commit \($0); to use it, give this commit as the revision (\(repository.revisionFlags))" } ?? "")"
        case .noClient(let repository, let file, let reason, let cache):
            "\(file.map { "\($0) of " } ?? "")\(repository) is not in the cache \(cache), and \(reason); download it with `hf download` or on another machine, or give local paths"
        case .noCorpus(let repository, let reason, let page):
            "\(repository): \(reason); download the training files yourself (\(page)), convert them to one JSON or JSONL file, and give it in --data_path"
        }
    }

    /// Whether the network or the server failed. Then the files in the cache may be used.
    var isOutage: Bool {
        switch self {
        case .unreachable, .rateLimited: true
        case .refused(_, _, _, let status, _): status >= 500 || status == 408
        default: false
        }
    }

    /// Whether the files in the cache may be used in spite of this error. True if the error says nothing about these
    /// files: for example after an outage, with a refused token, or if a login page has responded.
    var leavesTheCache: Bool {
        switch self {
        case .invalidToken, .tokenNotSent, .notAHub, .noListing, .refused: true
        case .noRepository(_, _, _, _, let isHubs): !isHubs
        default: isOutage
        }
    }
}
