// What the process' exit code says, after BSD's sysexits.h.

import ArrayFiles
import CUDA
import Corpus
import Extraction
import Files
import FoundationEssentials
import Gemma2
import Glibc
import Hub
import Planning
import Results
import RunState
import SparseAutoencoders
import Tensors
import Threading
import Tokenization

/// The exit codes in use.
enum ExitStatus: Int32 {
    /// A worker failed; the rest finished.
    case workerFailed = 1
    /// A flag's value cannot be.
    case usage = 64
    /// The corpus, the checkpoint or an SAE is bad.
    case badData = 65
    /// A device cannot be used, or the Hub cannot be reached or refuses.
    case unavailable = 69
    /// A mistake of ours.
    case internalError = 70
    /// The system refused a file, memory or threads.
    case ioError = 74
    /// Stopped by a signal; the same command continues.
    case stopped = 75
    /// The folder holds results of another configuration.
    case otherConfiguration = 78

    /// The code for `error`.
    init(for error: any Error) {
        self =
            switch error {
            case is UsageError, is ResultsOptionError, is SAEChoiceError: .usage
            case is CorpusError, is TokenizerError, is CheckpointError, is SafetensorsError,
                is NPZError, is SAEError, is NonFiniteError, is ResultsError, is ChangedFileError,
                is UnexpectedFileError:
                .badData
            // A file of the checkpoint that is missing, or a folder in its place: the checkpoint is bad.
            case let error as FileError where error.isAboutContent: .badData
            case is FileError, is FileNameError, is BackendError, is ThreadError, is DiskSpaceError,
                is StateRemovedError, is JournalChangedError,
                is MissingFilesError,
                is LauncherError:
                .ioError
            case CUDAError.noHostMemory: .ioError
            case is CUDAError, is DeviceError: .unavailable
            case let error as HubError: ExitStatus(for: error)
            case is ConfigurationConflict: .otherConfiguration
            default: .internalError
            }
    }

    private init(for error: HubError) {
        self =
            switch error {
            case .badSetting, .noRepository, .noRevision, .noFile, .noCorpus: .usage
            case .gatedWithoutToken, .gatedForToken, .invalidToken, .tokenNotSent, .unreachable,
                .rateLimited, .refused, .changed, .noListing, .notAHub, .damaged, .noDigest,
                .notCached, .noClient:
                .unavailable
            case .damagedInCache: .badData
            case .noHome, .cacheNotWritable, .diskFull, .cleared: .ioError
            }
    }

    /// Says what went wrong and ends the process, at once: short of memory, OpenBLAS' own end can wait for ever.
    func exit(saying error: any Error) -> Never {
        Console.shared.endDrawing()
        Console.shared.write(
            messageLines(error).map(SettingSource.named(in:)).after("Error: "))
        _exit(rawValue)
    }
}

extension FileError {
    /// Whether an input is not what it should be, rather than the system refusing to give it.
    fileprivate var isAboutContent: Bool {
        ["open", "read", "list"].contains(operation)
            && [ENOENT, ENOTDIR, EISDIR, EINVAL].contains(code)
    }
}
