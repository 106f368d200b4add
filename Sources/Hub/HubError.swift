// The errors of this module, and what a user can do about them.

/// Why a repository or a file of it is not available.
public enum HubError: Error, Equatable, CustomStringConvertible {
    /// An environment variable or file cannot be used.
    case badSetting(_ name: String, _ reason: String)
    /// Nothing says where the cache is: neither a variable nor the system's list of users.
    case noHome(user: Int)
    /// The repository is gated, and no token was given. `unreadable` is a token file that cannot be read, and the reason.
    case gatedWithoutToken(RepositoryReference, page: String, unreadable: String?)
    /// The repository is gated, and the token's account has no access.
    case gatedForToken(RepositoryReference, page: String, tokenSource: String)
    /// The Hub does not know the token.
    case invalidToken(source: String)
    /// The Hub has no such repository, or hides it. If `isHubs` is false, another server may have answered in the Hub's place.
    case noRepository(
        RepositoryReference, page: String, tokenSource: String?, unreadable: String?, isHubs: Bool)
    /// The repository has no such revision.
    case noRevision(RepositoryReference, page: String)
    /// The revision's commit has disappeared from the Hub.
    case changed(RepositoryReference)
    /// The repository has no such file.
    case noFile(RepositoryReference, file: String, page: String)
    /// The Hub answers, but has no list of the commit's files at `address`.
    case noListing(RepositoryReference, address: String, endpoint: String)
    /// `host` does not answer. `sender` names the hosts that answered before and redirected to it; nil if `host` was asked
    /// directly.
    case unreachable(host: String, sender: String?, reason: String)
    /// `host`, to which `sender` redirected the request, asks for a token, which is not sent there.
    case tokenNotSent(
        RepositoryReference, host: String, sender: String, status: Int, hasToken: Bool)
    /// The server refuses more requests for now. `seconds` is the wait that it asks for; nil if it does not ask for one.
    case rateLimited(endpoint: String, seconds: Int?, hasToken: Bool)
    /// `host` refused the request for a reason that is not known. `sender` as in `unreachable`.
    case refused(
        what: String, host: String, sender: String?, status: Int, message: String)
    /// An answer that no Hub gives.
    case notAHub(endpoint: String, reason: String)
    /// A content had a wrong hash or size after two downloads. `mirror` is the endpoint if `HF_ENDPOINT` gives it; otherwise nil.
    case damaged(
        RepositoryReference, file: String, expected: String, got: String, mirror: String?)
    /// A large file for which the listing has no SHA-256, and whose git id is not the listed one.
    case noDigest(RepositoryReference, file: String, expected: String, endpoint: String)
    /// The file system has `free` bytes, and the downloads need `needed` bytes.
    case diskFull(directory: String, needed: Int, free: Int)
    /// `file` must be added to the cache in `directory`, which `source` names, and cannot be, for `reason`. `commit` is another
    /// commit in the cache that has the wanted files; nil if there is none.
    case cacheNotWritable(
        RepositoryReference, file: String, reason: String, directory: String, source: String,
        commit: String?)
    /// A file was removed from the cache while others were downloaded.
    case cleared(directory: String, file: String)
    /// The content at `path` in the cache, to which `file` links, does not have the digest that its name says.
    case damagedInCache(RepositoryReference, file: String, path: String)
    /// The network is not used, and the cache lacks the file or the repository. `commit` is another commit of which the cache has
    /// it; nil if there is none.
    case notCached(
        RepositoryReference, file: String?, reason: String, cache: String, command: String,
        unreadable: String?, commit: String?)
    /// The cache lacks the file or the repository, and this program was built without the Hub client, or libcurl is missing.
    case noClient(RepositoryReference, file: String?, reason: String, cache: String)
    /// The dataset has no training files that can be read.
    case noCorpus(RepositoryReference, reason: String, page: String)

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .badSetting(let name, let reason): "\(name): \(reason)"
        case .noHome(let user):
            "the cache's folder is not known: HF_HOME, XDG_CACHE_HOME and HOME are not set, and user \(user) has no home folder on this machine; set HF_HOME to a folder that you may write to"
        case .gatedWithoutToken(let repository, let page, let unreadable):
            "\(repository) is gated: visit \(page), accept its terms, and give a token of your account in HF_TOKEN (or by `hf auth login`)\(unreadable.map { "; the token file \($0)" } ?? "")"
        case .gatedForToken(let repository, let page, let source):
            "\(repository) is gated, and the account of the token from \(source) has no access: visit \(page) with that account and ask for it, or give another account's token in HF_TOKEN"
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
            "\(address), the list of \(repository)'s files, is not there (404), though \(endpoint) has just named the commit: it lacks the part of the Hub's API that lists files; unset HF_ENDPOINT, give another mirror, or download with `hf download` and give local paths"
        case .unreachable(let host, nil, let reason):
            "cannot reach \(host): \(reason); check the network, the proxy (https_proxy) and HF_ENDPOINT, or download on another machine and give local paths"
        case .unreachable(let host, let sender?, let reason):
            "cannot reach \(host): \(reason). \(sender) answered and redirects to it: make sure that this machine can reach that host too (firewall, https_proxy), or download on another machine and give local paths"
        case .tokenNotSent(let repository, let host, let sender, let status, let hasToken):
            "\(repository): \(host) asks for a token (\(status)). \(sender) redirects to it, and a token is sent only to the host of HF_ENDPOINT: set HF_ENDPOINT=\(host)\(hasToken ? "" : " and give a token in HF_TOKEN"), or use a mirror that does not redirect"
        case .rateLimited(let endpoint, let seconds, let hasToken):
            "\(endpoint) refuses more requests for now (429)\(seconds.map { "; it says to wait \($0) seconds" } ?? "")\(hasToken ? "" : "; a token in HF_TOKEN raises the limit"). Run the same command again later; on a cluster, `sae-extract fetch` once and set HF_HUB_OFFLINE=1 in the jobs"
        case .refused(let what, let host, nil, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"); \(status == 407 ? "the proxy wants a user and a password: give them in its address, http://USER:PASSWORD@HOST:PORT, in that variable" : status >= 500 ? "run the same command again later" : "check HF_ENDPOINT and the token")"
        case .refused(let what, let host, let sender?, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"). \(sender) answered and redirects to it; \(status >= 500 ? "run the same command again later" : "if the error repeats, something on the way (firewall, https_proxy) refuses that host, or this machine's clock is wrong")"
        case .notAHub(let endpoint, let reason):
            "\(endpoint) does not answer as a Hugging Face Hub: \(reason); check HF_ENDPOINT, and whether a proxy or a login page answers in its place"
        case .damaged(let repository, let file, let expected, let got, let mirror):
            "\(repository): \(file) was downloaded twice and is not what the Hub says: expected \(expected), got \(got); try again later or without the proxy, \(mirror.map { "or without HF_ENDPOINT: \($0) may change what it passes on" } ?? "and report it to the repository's owner if the error repeats")"
        case .noDigest(let repository, let file, let expected, let endpoint):
            "\(repository): \(file) cannot be checked: \(endpoint) lists no SHA-256 (lfs) for it, and its git id is not \(expected); unset HF_ENDPOINT, take a mirror that passes the Hub's list on unchanged, or download with `hf download` and give local paths"
        case .diskFull(let directory, let needed, let free):
            "\(directory): \(needed) bytes are to be downloaded, but \(free) are free; free some space, or set HF_HOME to a larger file system (or use --ignore_free_space, if the file system reports too little free space)"
        case .cacheNotWritable(
            let repository, let file, let reason, let directory, let source, let commit):
            "\(file) of \(repository) must be added to the cache \(directory) (from \(source)), but nothing can be added to it: \(reason). Set HF_HOME to a folder that you may write to\(commit.map { ", or use the commit that is in the cache: give \($0) as the revision (\(repository.revisionFlags))" } ?? "")"
        case .cleared(let directory, let file):
            "\(directory): \(file) was removed from the cache during the download; run the same command again, and make sure that nothing is removed from the cache while it is in use"
        case .damagedInCache(let repository, let file, let path):
            "\(file) of \(repository) in the cache is not what its name says: the content of \(path) has another digest; it was cut short or changed. Remove it and run the same command with network\(repository.kind == .dataset ? ", or give the file in --data_path to read it as it is" : "")"
        case .notCached(
            let repository, let file, let reason, let cache, let command, let unreadable,
            let commit):
            "\(reason), and \(file.map { "\($0) of " } ?? "")\(repository) is not in the cache \(cache)\(unreadable.map { " as far as it can be read (\($0))" } ?? ""); where there is network and the same cache, run `\(command)`\(commit.map { ". The cache has it of commit \($0): give that as the revision (\(repository.revisionFlags)) to use it" } ?? "")"
        case .noClient(let repository, let file, let reason, let cache):
            "\(file.map { "\($0) of " } ?? "")\(repository) is not in the cache \(cache), and \(reason); download it with `hf download` or another sae-extract, or give local paths"
        case .noCorpus(let repository, let reason, let page):
            "\(repository): \(reason); download or convert it yourself (\(page)) and give --data_path"
        }
    }

    /// Whether the network or the server failed, not the request. Then what is in the cache may be used.
    var isOutage: Bool {
        switch self {
        case .unreachable, .rateLimited: true
        case .refused(_, _, _, let status, _): status >= 500 || status == 408
        default: false
        }
    }

    /// Whether the error says nothing against what is in the cache: nobody answers, another server answers in the Hub's place (a
    /// proxy's refusal, a login page), or the token is refused, for whatever reason.
    var leavesTheCache: Bool {
        switch self {
        case .invalidToken, .tokenNotSent, .notAHub, .noListing, .refused: true
        case .noRepository(_, _, _, _, let isHubs): !isHubs
        default: isOutage
        }
    }
}
