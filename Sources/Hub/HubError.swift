// What can go wrong between this program and the Hub, and what a user does about it.

/// Why a repository or a file of it cannot be had.
public enum HubError: Error, Equatable, CustomStringConvertible {
    /// An environment variable or file cannot be used.
    case badSetting(_ name: String, _ reason: String)
    /// Terms must be accepted first, and no token says who asks.
    case gatedWithoutToken(RepositoryReference, page: String)
    /// The token's account has no access.
    case gatedForToken(RepositoryReference, page: String, tokenSource: String)
    /// The Hub does not know the token.
    case invalidToken(source: String)
    /// The Hub has no such repository, or hides it.
    case noRepository(RepositoryReference, page: String, tokenSource: String?)
    /// The repository has no such revision.
    case noRevision(RepositoryReference, page: String)
    /// The commit that the revision was has gone.
    case changed(RepositoryReference)
    /// The repository has no such file.
    case noFile(RepositoryReference, file: String, page: String)
    /// Nobody answers.
    case unreachable(endpoint: String, reason: String)
    /// Too many requests.
    case rateLimited(endpoint: String, seconds: Int?, hasToken: Bool)
    /// An answer that says neither yes nor why not.
    case refused(what: String, status: Int, message: String)
    /// An answer that the Hub does not give.
    case notAHub(endpoint: String, reason: String)
    /// A body was not what its hash or size says, twice.
    case damaged(RepositoryReference, file: String, expected: String, got: String)
    /// The file system is too small for the downloads.
    case diskFull(directory: String, needed: Int, free: Int)
    /// Files of the cache were removed while others were downloaded.
    case cleared(directory: String, file: String)
    /// The network is not to be used, and the cache has not got it.
    case notCached(
        RepositoryReference, file: String?, reason: String, cache: String, command: String)
    /// This program was built without its client, or what the client needs is not there.
    case noClient(RepositoryReference, file: String?, reason: String, cache: String)
    /// A dataset without files that can be read.
    case noCorpus(RepositoryReference, reason: String, page: String)

    /// What is wrong, where, and the next step.
    public var description: String {
        switch self {
        case .badSetting(let name, let reason): "\(name): \(reason)"
        case .gatedWithoutToken(let repository, let page):
            "\(repository) is gated: visit \(page), accept its terms, and give a token of your account in HF_TOKEN (or by `hf auth login`)"
        case .gatedForToken(let repository, let page, let source):
            "\(repository) is gated, and the account of the token from \(source) has no access: visit \(page) with that account and ask for it, or give another account's token in HF_TOKEN"
        case .invalidToken(let source):
            "the Hub does not accept the token from \(source): it has expired or is misspelt; make one at https://huggingface.co/settings/tokens and give it in HF_TOKEN"
        case .noRepository(let repository, let page, let source):
            "there is no \(repository.kind.rawValue) \(repository.id) at \(page), or it is private\(source.map { " and the token from \($0) has no access" } ?? " and no token was given"); check the spelling, or give a token in HF_TOKEN"
        case .noRevision(let repository, let page):
            "\(repository.id) has no revision '\(repository.revision)'; see the branches and tags at \(page)/tree/main, and check the spelling"
        case .changed(let repository):
            "\(repository) has changed on the Hub while it was read; run the same command again"
        case .noFile(let repository, let file, let page):
            "\(repository) has no file \(file); see \(page)/tree/\(repository.revision), or give another revision"
        case .unreachable(let endpoint, let reason):
            "cannot reach \(endpoint): \(reason); check the network, the proxy (https_proxy) and HF_ENDPOINT, or download on another machine and give local paths"
        case .rateLimited(let endpoint, let seconds, let hasToken):
            "\(endpoint) refuses more requests for now (429)\(seconds.map { "; it says to wait \($0) seconds" } ?? "")\(hasToken ? "" : "; a token in HF_TOKEN raises the limit"). Run the same command again later; on a cluster, `sae-extract fetch` once and set HF_HUB_OFFLINE=1 in the jobs"
        case .refused(let what, let status, let message):
            "\(what): the server answers \(status)\(message.isEmpty ? "" : " (\(message))"); \(status >= 500 ? "run the same command again later" : "check HF_ENDPOINT and the token")"
        case .notAHub(let endpoint, let reason):
            "\(endpoint) does not answer as a Hugging Face Hub: \(reason); check HF_ENDPOINT, and whether a proxy or a login page answers in its place"
        case .damaged(let repository, let file, let expected, let got):
            "\(repository): \(file) was downloaded twice and is not what the Hub says: expected \(expected), got \(got); try again later or without the proxy, and report it to the repository's owner if it stays so"
        case .diskFull(let directory, let needed, let free):
            "\(directory): \(needed) bytes are to be downloaded, but \(free) are free; free some space, or set HF_HOME to a larger file system (--ignore_free_space, if the file system says less than there is)"
        case .cleared(let directory, let file):
            "\(directory): \(file) was there and has gone meanwhile; run the same command again, and see that nobody clears the cache while it is used"
        case .notCached(let repository, let file, let reason, let cache, let command):
            "\(reason), and \(file.map { "\($0) of " } ?? "")\(repository) is not in the cache \(cache); where there is network and the same cache, run `\(command)`"
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
        case .refused(_, let status, _): status >= 500 || status == 408
        default: false
        }
    }

    /// Whether it is the token that the Hub refuses, whatever it is for.
    var isAboutToken: Bool { if case .invalidToken = self { true } else { false } }
}
