// The exit codes of the program, after BSD's sysexits.h.

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
import CPUBackend
import Threading
import Tokenization

/// The program's exit codes.
enum ExitStatus: Int32 {
    /// A worker failed and the others finished, or all workers failed with different codes.
    case workerFailed = 1
    /// The value of a flag or a variable is invalid.
    case usage = 64
    /// The corpus, the checkpoint, an SAE or a result file is invalid.
    case badData = 65
    /// A device is unusable, or the Hub is unreachable or refuses access.
    case unavailable = 69
    /// A bug in this program.
    case internalError = 70
    /// The system refused access to a file, memory or threads, or a disk is full.
    case ioError = 74
    /// A signal stopped the run. The same command continues it.
    case stopped = 75
    /// `--save_dir` holds results of another configuration.
    case otherConfiguration = 78

    /// The exit code for `error`.
    init(for error: any Error) {
        self =
            switch error {
            case is UsageError, is ResultsOptionError, is SAEChoiceError: .usage
            case is CorpusError, is TokenizerError, is CheckpointError, is SafetensorsError,
                is NPZError, is SAEError, is NonFiniteError, is ResultsError, is ChangedFileError,
                is UnexpectedFileError:
                .badData
            // A file of the checkpoint that is missing or is a folder makes the checkpoint invalid.
            case let error as FileError where error.isAboutContent: .badData
            case is FileError, is FileNameError, is CPUBackendError, is ThreadError,
                is DiskSpaceError,
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

    /// Writes `error` to standard error and ends the process with this code. Calls `_exit`, because OpenBLAS' exit
    /// handler may wait forever if memory is short.
    func exit(saying error: any Error) -> Never {
        Console.shared.endDrawing()
        Console.shared.write(
            messageLines(error).map(SettingSource.named(in:)).prefixed(by: "Error: "))
        _exit(rawValue)
    }
}

extension FileError {
    /// Whether the error means that an input is invalid. False if the system refused access to the input.
    fileprivate var isAboutContent: Bool {
        ["open", "read", "list"].contains(operation)
            && [ENOENT, ENOTDIR, EISDIR, EINVAL].contains(code)
    }
}
