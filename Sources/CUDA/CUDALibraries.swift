// Finds and loads NVIDIA's libraries at run time, so that the same program also runs on machines without them.

import CCUDA
import FoundationEssentials
import Glibc

/// One of NVIDIA's libraries, and the result of the search for it.
package struct LibraryFinding: Codable, Equatable, Sendable {
    /// The name that users know: "libcuda", "libcudart" or "libcublas". If the last two were found but cannot be
    /// used, one finding has the name "libcudart, libcublas".
    package let name: String
    /// The path of the file that was loaded; nil if the library was not found.
    package var path: String?
    /// The version, such as "12.9"; nil if it is unknown.
    package var version: String?
}

/// The functions of libcuda, libcudart and libcublas, loaded into this process.
package struct CUDALibraries {
    /// The functions of libcuda.
    package private(set) var driver = cuda_driver_table()
    /// The functions of libcudart.
    package private(set) var runtime = cudart_table()
    /// The functions of libcublas.
    package private(set) var blas = cublas_table()
    /// The result of the search for each library.
    package private(set) var findings: [LibraryFinding] = []

    /// The environment variables in which users can name the file of a library.
    package static let pathVariables = [Variable.driver, Variable.runtime, Variable.blas]

    private enum Variable {
        static let driver = "SAE_EXTRACT_CUDA_DRIVER_LIB"
        static let runtime = "SAE_EXTRACT_CUDART_LIB"
        static let blas = "SAE_EXTRACT_CUBLAS_LIB"
    }

    /// The supported CUDA releases, newest first. The functions that this program calls have the same declarations in
    /// all of them (`cuda_runtime_api.h`, `cublas_api.h`).
    private static let releases: [(major: Int, runtime: String, blas: String)] = [
        (13, "libcudart.so.13", "libcublas.so.13"), (12, "libcudart.so.12", "libcublas.so.12"),
        (11, "libcudart.so.11.0", "libcublas.so.11"),
    ]

    /// Loads the three libraries. Throws `CUDAError`. `findings` receives the result of the search, also if an error
    /// is thrown.
    package init(
        environment: [String: String], findings out: inout [LibraryFinding]
    ) throws(CUDAError) {
        defer { out = findings }
        let driverMajor = try loadDriver(environment)
        var triedRuntime: [String] = []
        var triedBLAS: [String] = []
        var problem: CUDAError?
        // Releases newer than the driver are skipped: their libraries can be loaded, but calls of their functions
        // fail.
        for release in CUDALibraries.releases where release.major <= driverMajor {
            let folders = CUDALibraries.folders(release.major, environment)
            let runtimes = CUDALibraries.candidates(
                release.runtime, environment[Variable.runtime], folders)
            let blases = CUDALibraries.candidates(
                release.blas, environment[Variable.blas], folders)
            guard let runtimeHandle = CUDALibraries.open(runtimes, &triedRuntime) else { continue }
            guard let blasHandle = CUDALibraries.open(blases, &triedBLAS) else { continue }
            do throws(CUDAError) {
                try fill(runtimeHandle, blasHandle)
                return
            } catch {
                problem = problem ?? error
            }
        }
        if let problem {
            findings.append(LibraryFinding(name: "libcudart, libcublas"))
            throw problem
        }
        let isRuntimeMissing = triedBLAS.isEmpty
        let error = CUDAError.missingLibrary(
            name: isRuntimeMissing ? "libcudart" : "libcublas",
            tried: isRuntimeMissing ? triedRuntime : triedBLAS,
            advice:
                "install CUDA's libraries: the toolkit, or the Python packages nvidia-cuda-runtime and nvidia-cublas (for a driver of CUDA 13), nvidia-cuda-runtime-cu12 and nvidia-cublas-cu12 (CUDA 12), nvidia-cuda-runtime-cu11 and nvidia-cublas-cu11 (CUDA 11); or name the files in \(Variable.runtime) and \(Variable.blas)"
        )
        findings.append(
            LibraryFinding(name: isRuntimeMissing ? "libcudart" : "libcublas"))
        throw error
    }

    /// Loads libcuda. Returns the major CUDA release that the driver supports; 13 if it is unknown.
    private mutating func loadDriver(_ environment: [String: String]) throws(CUDAError) -> Int {
        let soname = "libcuda.so.1"
        var tried: [String] = []
        // Do not load libcuda.so: it may be the stub library of the toolkit.
        let files = CUDALibraries.candidates(
            soname, environment[Variable.driver],
            ["/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu"])
        guard let handle = CUDALibraries.open(files, &tried, isGlobal: true) else {
            let error = CUDAError.missingLibrary(
                name: "the NVIDIA driver's library \(soname)", tried: tried,
                advice:
                    "install the driver, start the container with GPU access (--gpus all, --nv), or name the library's file in \(Variable.driver)"
            )
            findings.append(LibraryFinding(name: "libcuda"))
            throw error
        }
        var finding = LibraryFinding(name: "libcuda", path: CUDALibraries.path(of: handle))
        defer { findings.append(finding) }
        if let function = ccuda_fill_driver(handle, &driver) {
            throw .missingFunction(
                library: finding.path ?? soname, function: String(cString: function))
        }
        var version: Int32 = 0
        guard driver.cuDriverGetVersion(&version) == 0, version > 0 else { return 13 }
        finding.version = CUDALibraries.release(version)
        return Int(version) / 1000
    }

    /// Fills the function tables of the runtime and of cuBLAS. Appends both libraries with their versions to
    /// `findings`.
    private mutating func fill(
        _ runtimeHandle: UnsafeMutableRawPointer, _ blasHandle: UnsafeMutableRawPointer
    ) throws(CUDAError) {
        let runtimePath = CUDALibraries.path(of: runtimeHandle)
        let blasPath = CUDALibraries.path(of: blasHandle)
        if let function = ccuda_fill_cudart(runtimeHandle, &runtime) {
            throw .missingFunction(
                library: runtimePath ?? "libcudart", function: String(cString: function))
        }
        if let function = ccuda_fill_cublas(blasHandle, &blas) {
            throw .missingFunction(
                library: blasPath ?? "libcublas", function: String(cString: function))
        }
        var version: Int32 = 0
        let isKnown = runtime.cudaRuntimeGetVersion(&version) == 0
        findings.append(
            LibraryFinding(
                name: "libcudart", path: runtimePath,
                version: isKnown ? CUDALibraries.release(version) : nil))
        let numbers = (0..<3).map { type -> Int32 in
            var value: Int32 = 0
            _ = blas.cublasGetProperty(Int32(type), &value)
            return value
        }
        findings.append(
            LibraryFinding(
                name: "libcublas", path: blasPath,
                version: numbers.map { "\($0)" }.joined(separator: ".")))
    }

    // MARK: Where to look

    /// Returns the files to try, in order. If `override` is set, it is the only one. Otherwise the first is the plain
    /// name, for which the dynamic linker searches LD_LIBRARY_PATH and its cache. Then follow the files `name` in
    /// `folders`.
    private static func candidates(
        _ name: String, _ override: String?, _ folders: [String]
    ) -> [String] {
        if let override, !override.isEmpty { return [override] }
        return [name] + folders.map { "\($0)/\(name)" }
    }

    private static func open(
        _ files: [String], _ tried: inout [String], isGlobal: Bool = false
    ) -> UnsafeMutableRawPointer? {
        for file in files {
            // The dynamic linker searches for a plain name. Only a path is tested first, because the linker's message
            // about a missing file is not useful.
            let isThere = !file.contains("/") || FileManager.default.fileExists(atPath: file)
            if isThere, let handle = dlopen(file, RTLD_NOW | (isGlobal ? RTLD_GLOBAL : RTLD_LOCAL))
            {
                return handle
            }
            let reason =
                isThere
                ? dlerror().map { String(cString: $0) } ?? "cannot be loaded"
                : "\(file): does not exist"
            if !tried.contains(reason) { tried.append(reason) }
        }
        return nil
    }

    private static func path(of handle: UnsafeMutableRawPointer) -> String? {
        ccuda_library_path(handle).map { String(cString: $0) }
    }

    /// Formats a CUDA version number: 12090 is "12.9".
    static func release(_ version: Int32) -> String { "\(version / 1000).\(version % 1000 / 10)" }

    /// Returns the folders that may contain the libraries of CUDA `major`: those of the toolkit, of conda, of the
    /// Python packages that PyTorch installs, and of the Linux distribution.
    private static func folders(_ major: Int, _ environment: [String: String]) -> [String] {
        let files = FileManager.default
        func entries(_ folder: String) -> [String] {
            ((try? files.contentsOfDirectory(atPath: folder)) ?? []).sorted()
        }
        var toolkits = ["CUDA_HOME", "CUDA_PATH"].compactMap { environment[$0] }
        toolkits.append("/usr/local/cuda")
        toolkits += entries("/usr/local").filter { $0.hasPrefix("cuda-\(major)") }
            .map { "/usr/local/\($0)" }
        var folders = toolkits.flatMap { ["\($0)/lib64", "\($0)/targets/x86_64-linux/lib"] }
        if let conda = environment["CONDA_PREFIX"] { folders.append("\(conda)/lib") }
        var prefixes = ["VIRTUAL_ENV", "CONDA_PREFIX"].compactMap { environment[$0] }
        for folder in (environment["PATH"] ?? "").split(separator: ":") {
            let python = "\(folder)/python3"
            guard files.isExecutableFile(atPath: python) else { continue }
            // The prefix is the folder of a virtual environment, even if its python3 is a link to another folder.
            prefixes.append(
                String(folder.split(separator: "/").dropLast().map { "/" + $0 }.joined()))
        }
        for prefix in prefixes {
            for python in entries("\(prefix)/lib") where python.hasPrefix("python3") {
                for packages in ["site-packages", "dist-packages"] {
                    let nvidia = "\(prefix)/lib/\(python)/\(packages)/nvidia"
                    folders +=
                        major >= 13
                        ? ["\(nvidia)/cu\(major)/lib"]
                        : ["\(nvidia)/cublas/lib", "\(nvidia)/cuda_runtime/lib"]
                }
            }
        }
        folders.append("/usr/lib/x86_64-linux-gnu")
        var seen: Set<String> = []
        return folders.filter { seen.insert($0).inserted }
    }
}
