// What can go wrong between this program and the Hub, and what a user does about it.

/// Why a repository or a file of it cannot be had.
public enum HubError: Error, Equatable, CustomStringConvertible {
    /// An environment variable or file cannot be used.
    case badSetting(_ name: String, _ reason: String)
    /// Nothing says where the cache is: neither a variable nor the system's list of users.
    case noHome(user: Int)
    /// Terms must be accepted first, and no token says who asks; `unreadable` is a token file that cannot be read, and why.
    case gatedWithoutToken(RepositoryReference, page: String, unreadable: String?)
    /// The token's account has no access.
    case gatedForToken(RepositoryReference, page: String, tokenSource: String)
    /// The Hub does not know the token.
    case invalidToken(source: String)
    /// The Hub has no such repository, or hides it; without `isHubs` it may be another that answers so in its place.
    case noRepository(
        RepositoryReference, page: String, tokenSource: String?, unreadable: String?, isHubs: Bool)
    /// The repository has no such revision.
    case noRevision(RepositoryReference, page: String)
    /// The commit that the revision was has gone.
    case changed(RepositoryReference)
    /// The repository has no such file.
    case noFile(RepositoryReference, file: String, page: String)
    /// The Hub answers, but has no list of the commit's files at `address`.
    case noListing(RepositoryReference, address: String, endpoint: String)
    /// `host` does not answer. `sender` has, and sent the request on to it; nil where it was asked itself.
    case unreachable(host: String, sender: String?, reason: String)
    /// `host`, which `sender` sent the request on to, wants to know who asks.
    case tokenNotSent(
        RepositoryReference, host: String, sender: String, status: Int, hasToken: Bool)
    /// Too many requests.
    case rateLimited(endpoint: String, seconds: Int?, hasToken: Bool)
    /// An answer of `host` that says neither yes nor why not. `sender` as in `unreachable`.
    case refused(
        what: String, host: String, sender: String?, status: Int, message: String)
    /// An answer that the Hub does not give.
    case notAHub(endpoint: String, reason: String)
    /// A body was not what its hash or size says, twice. `mirror` is the endpoint where that is not the Hub itself.
    case damaged(
        RepositoryReference, file: String, expected: String, got: String, mirror: String?)
    /// A large file that the listing has no digest of, and whose git id is another.
    case noDigest(RepositoryReference, file: String, expected: String, endpoint: String)
    /// The file system is too small for the downloads.
    case diskFull(directory: String, needed: Int, free: Int)
    /// `file` must be put into the cache, whose folder `source` names, and `reason` says why it cannot. `commit` is one that is
    /// there, without that file as the Hub has it now.
    case cacheNotWritable(
        RepositoryReference, file: String, reason: String, directory: String, source: String,
        commit: String?)
    /// Files of the cache were removed while others were downloaded.
    case cleared(directory: String, file: String)
    /// The content at `path` in the cache, which `file` is a link to, is not what its name says.
    case damagedInCache(RepositoryReference, file: String, path: String)
    /// The network is not to be used, and the cache has not got it. `commit` is one that it has it of.
    case notCached(
        RepositoryReference, file: String?, reason: String, cache: String, command: String,
        unreadable: String?, commit: String?)
    /// This program was built without its client, or what the client needs is not there.
    case noClient(RepositoryReference, file: String?, reason: String, cache: String)
    /// A dataset without files that can be read.
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
            "cannot reach \(host): \(reason). \(sender) answered and sends on to it: see that this machine may reach that host too (firewall, https_proxy), or download on another machine and give local paths"
        case .tokenNotSent(let repository, let host, let sender, let status, let hasToken):
            "\(repository): \(host) wants to know who asks (\(status)). \(sender) sends on to it, and a token goes to the host of HF_ENDPOINT alone: set HF_ENDPOINT=\(host)\(hasToken ? "" : " and give a token in HF_TOKEN"), or take a mirror that answers by itself"
        case .rateLimited(let endpoint, let seconds, let hasToken):
            "\(endpoint) refuses more requests for now (429)\(seconds.map { "; it says to wait \($0) seconds" } ?? "")\(hasToken ? "" : "; a token in HF_TOKEN raises the limit"). Run the same command again later; on a cluster, `sae-extract fetch` once and set HF_HUB_OFFLINE=1 in the jobs"
        case .refused(let what, let host, nil, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"); \(status == 407 ? "the proxy wants a user and a password: give them in its address, http://USER:PASSWORD@HOST:PORT, in that variable" : status >= 500 ? "run the same command again later" : "check HF_ENDPOINT and the token")"
        case .refused(let what, let host, let sender?, let status, let message):
            "\(what): \(host) answers \(status)\(message.isEmpty ? "" : " (\(message))"). \(sender) answered and sends on to it; \(status >= 500 ? "run the same command again later" : "if it stays so, something on the way (firewall, https_proxy) refuses that host, or this machine's clock is wrong")"
        case .notAHub(let endpoint, let reason):
            "\(endpoint) does not answer as a Hugging Face Hub: \(reason); check HF_ENDPOINT, and whether a proxy or a login page answers in its place"
        case .damaged(let repository, let file, let expected, let got, let mirror):
            "\(repository): \(file) was downloaded twice and is not what the Hub says: expected \(expected), got \(got); try again later or without the proxy, \(mirror.map { "or without HF_ENDPOINT: \($0) may change what it passes on" } ?? "and report it to the repository's owner if it stays so")"
        case .noDigest(let repository, let file, let expected, let endpoint):
            "\(repository): nothing proves that \(file) came whole: \(endpoint) lists no SHA-256 (lfs) for it, and its git id is not \(expected); unset HF_ENDPOINT, take a mirror that passes the Hub's list on unchanged, or download with `hf download` and give local paths"
        case .diskFull(let directory, let needed, let free):
            "\(directory): \(needed) bytes are to be downloaded, but \(free) are free; free some space, or set HF_HOME to a larger file system (--ignore_free_space, if the file system says less than there is)"
        case .cacheNotWritable(
            let repository, let file, let reason, let directory, let source, let commit):
            "\(file) of \(repository) is to be put into the cache \(directory) (from \(source)), and it cannot be added to: \(reason). Set HF_HOME to a folder that you may write to\(commit.map { ", or take the commit that is there: give \($0) as the revision (\(repository.revisionFlags))" } ?? "")"
        case .cleared(let directory, let file):
            "\(directory): \(file) was there and has gone meanwhile; run the same command again, and see that nobody clears the cache while it is used"
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

    /// Whether it is the network or the server that fails, not the request: what is in the cache may do.
    var isOutage: Bool {
        switch self {
        case .unreachable, .rateLimited: true
        case .refused(_, _, _, let status, _): status >= 500 || status == 408
        default: false
        }
    }

    /// Whether it says nothing against what is in the cache: nobody answers, something else answers in the Hub's place (a proxy's
    /// refusal, a login page), or the token is refused, whatever it is for.
    var leavesTheCache: Bool {
        switch self {
        case .invalidToken, .tokenNotSent, .notAHub, .noListing, .refused: true
        case .noRepository(_, _, _, _, let isHubs): !isHubs
        default: isOutage
        }
    }
}
