// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Settings for modules whose loops run once per float or per byte. With these settings, debug builds are optimised
/// too. Without optimisation, the loops would be a hundred times slower.
let kernels: [SwiftSetting] = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]

let package = Package(
    name: "sae-extract",
    products: [
        .executable(name: "sae-extract", targets: ["sae-extract"]),
        // The stand-in for NVIDIA's libraries, for tests only. The library is dynamic, because the program loads
        // NVIDIA's libraries by file name.
        .library(name: "FakeCUDA", type: .dynamic, targets: ["FakeCUDA"]),
    ],
    traits: [
        .trait(
            name: "Hub",
            description:
                "Downloads models, SAEs and corpora from the Hugging Face Hub, through libcurl, which is loaded at run time."
        ),
        .default(enabledTraits: ["Hub"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        // swift-crypto depends on swift-asn1, but this program links nothing of swift-asn1. The version is fixed
        // here, so that every clone builds the same sources. SwiftPM reports that no target uses swift-asn1.
        .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
        .package(
            url: "https://github.com/swiftlang/swift-subprocess", exact: "1.0.2", traits: []),
    ],
    targets: [
        // Each module imports only modules listed below it.
        .executableTarget(
            name: "sae-extract",
            dependencies: [
                "Extraction", "Planning", "RunState", "Results", "AuthorReceipts", "RunFiles",
                "Corpus",
                "Tokenization", "Gemma2", "SparseAutoencoders", "CPUBackend", "Tensors",
                "Threading", "CUDA",
                "Hub", "ArrayFiles", "Files", "Hooks", "ByteJSON", "CStartup",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict, plugins: ["SourceCommit"]),
        .plugin(name: "SourceCommit", capability: .buildTool()),
        .target(
            name: "Extraction",
            dependencies: [
                "Planning", "RunState", "AuthorReceipts", "RunFiles", "Corpus", "Tokenization",
                "Gemma2", "SparseAutoencoders", "CPUBackend", "CUDABackend", "Tensors", "Threading",
                "CUDA", "ArrayFiles",
                "Files", "Hooks", "ByteJSON",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "Planning",
            dependencies: [
                "RunState", "AuthorReceipts", "RunFiles", "Corpus", "Tokenization", "Gemma2",
                "SparseAutoencoders", "Tensors", "Threading", "CUDA", "ArrayFiles", "Files",
                "Hooks", "ByteJSON",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "RunState",
            dependencies: [
                "AuthorReceipts", "RunFiles", "Tokenization", "Tensors", "Threading", "Files",
                "Hooks", "ByteJSON",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "Results",
            dependencies: [
                "AuthorReceipts", "RunFiles", "Threading", "ArrayFiles", "Files", "Hooks",
                "ByteJSON", "CReport",
            ],
            // The loops of `Results` run once per entry of a file.
            swiftSettings: kernels),
        .target(
            name: "AuthorReceipts", dependencies: ["RunFiles", "Files", "Hooks", "ByteJSON"],
            swiftSettings: strict),
        .target(
            name: "RunFiles",
            dependencies: [
                "ArrayFiles", "Files", "Hooks", "ByteJSON",
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: kernels),
        .target(
            name: "Gemma2", dependencies: ["Tensors", "ArrayFiles", "Files", "Hooks", "ByteJSON"],
            swiftSettings: strict),
        .target(
            name: "SparseAutoencoders",
            dependencies: ["Tensors", "ArrayFiles", "Files", "Hooks", "ByteJSON"],
            swiftSettings: strict),
        .target(
            name: "CPUBackend",
            dependencies: [
                "Tensors", "Threading", "ArrayFiles", "Files", "CBFloat16", "COpenBLAS",
            ],
            swiftSettings: kernels),
        .target(
            name: "CUDABackend",
            dependencies: ["Tensors", "CUDA", "Threading", "ArrayFiles", "Files"],
            swiftSettings: kernels),
        .target(name: "Tensors", dependencies: ["ArrayFiles"], swiftSettings: kernels),
        .target(name: "CUDA", dependencies: ["CCUDA"], swiftSettings: strict),
        .target(
            name: "Hub",
            dependencies: [
                "Threading", "Files", "ByteJSON",
                .target(name: "CCurl", condition: .when(traits: ["Hub"])),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "Tokenization",
            dependencies: [
                "Files", "ByteJSON",
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: kernels),
        .target(
            name: "Corpus", dependencies: ["Files", "ByteJSON", "CZstd"], swiftSettings: kernels),
        .target(name: "ArrayFiles", dependencies: ["Files", "ByteJSON"], swiftSettings: kernels),
        .target(name: "Files", dependencies: ["ByteJSON", "CZlib"], swiftSettings: kernels),
        .target(name: "Threading", swiftSettings: kernels),
        .target(name: "Hooks", swiftSettings: strict),
        .target(name: "ByteJSON", swiftSettings: kernels),
        .executableTarget(
            name: "bench-tool",
            dependencies: [
                "ArrayFiles", "Corpus", "Files", "CPUBackend", "Tensors", "Threading",
                "Tokenization",
                "BenchPeak",
            ],
            path: "scripts/benchmarks/tool",
            swiftSettings: strict),
        .target(
            name: "BenchPeak", path: "scripts/benchmarks/peak", cSettings: [.unsafeFlags(["-O2"])]),
        .target(
            name: "TestSupport", dependencies: ["ArrayFiles", "Files", "ByteJSON"],
            path: "Tests/TestSupport",
            swiftSettings: kernels),
        .target(
            name: "FakeCUDA", path: "Tests/FakeCUDA",
            cxxSettings: [
                // -ffp-contract=fast fuses a product and a sum into one operation where possible, as CUDA devices do.
                .headerSearchPath("."),
                .unsafeFlags(["-O2", "-std=c++20", "-mfma", "-ffp-contract=fast"]),
            ]),
        .testTarget(name: "HooksTests", dependencies: ["Hooks"], swiftSettings: strict),
        .testTarget(name: "ByteJSONTests", dependencies: ["ByteJSON"], swiftSettings: strict),
        .testTarget(
            name: "ArrayFilesTests",
            dependencies: ["ArrayFiles", "RunFiles", "Files", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "FilesTests", dependencies: ["Files", "ArrayFiles", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "ThreadingTests", dependencies: ["Threading"],
            swiftSettings: strict),
        .testTarget(
            name: "TensorsTests",
            dependencies: [
                "CPUBackend", "CUDABackend", "Tensors", "Threading", "CUDA", "ArrayFiles",
                "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CorpusTests", dependencies: ["Corpus", "Files", "CZstd", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TokenizationTests", dependencies: ["Tokenization", "ByteJSON", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "Gemma2Tests",
            dependencies: [
                "Gemma2", "CPUBackend", "Tensors", "Threading", "ArrayFiles", "Hooks", "ByteJSON",
                "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SparseAutoencodersTests",
            dependencies: [
                "SparseAutoencoders", "CPUBackend", "Tensors", "Threading", "ArrayFiles", "Files",
                "Hooks",
                "ByteJSON", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "HubTests",
            dependencies: [
                "Hub", "Files", "ByteJSON", "TestSupport",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "RunFilesTests", dependencies: ["RunFiles", "Hooks", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "AuthorReceiptsTests",
            dependencies: [
                "AuthorReceipts", "RunFiles", "Files", "Hooks", "ByteJSON", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "RunStateTests",
            dependencies: [
                "RunState", "AuthorReceipts", "RunFiles", "Tokenization", "Tensors", "Threading",
                "Files", "Hooks", "TestSupport",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "PlanningTests",
            dependencies: [
                "Planning", "RunState", "AuthorReceipts", "RunFiles", "Corpus", "Gemma2",
                "SparseAutoencoders", "Tensors", "Threading", "Files", "Hooks", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ResultsTests",
            dependencies: [
                "Results", "RunFiles", "ArrayFiles", "Files", "Hooks", "ByteJSON", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CLITests",
            dependencies: [
                "sae-extract", "Extraction", "Planning", "RunFiles", "Tokenization", "CPUBackend",
                "Tensors",
                "CUDA", "ArrayFiles", "Files", "Hooks", "ByteJSON", "TestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: strict),
        .target(
            name: "CCUDA", path: "Sources/C/CCUDA",
            exclude: ["kernels.cu", "kernels.ptx", "prelude.h"],
            // The sources use #embed, a C23 feature.
            cSettings: [.unsafeFlags(["-std=c2x", "-Wno-c23-extensions"])]),
        .target(name: "CCurl", path: "Sources/C/CCurl", cSettings: [.unsafeFlags(["-std=c2x"])]),
        .target(
            name: "CStartup", path: "Sources/C/CStartup", cSettings: [.unsafeFlags(["-std=c2x"])]),
        .target(
            name: "CReport", path: "Sources/C/CReport",
            exclude: ["page.html", "page.css", "page.js", "neuronpedia.json"],
            cSettings: [.unsafeFlags(["-std=c2x", "-Wno-c23-extensions"])]),
        // The code selects its instructions at run time, so no flag names a processor. The code is optimised in debug
        // builds too.
        .target(
            name: "CBFloat16", path: "Sources/C/CBFloat16", exclude: ["kernels.inc"],
            cSettings: [.unsafeFlags(["-O2", "-std=c2x"])]),
        .systemLibrary(
            name: "COpenBLAS", path: "Sources/C/COpenBLAS", pkgConfig: "openblas",
            providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(
            name: "CZlib", path: "Sources/C/CZlib", pkgConfig: "zlib",
            providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(
            name: "CZstd", path: "Sources/C/CZstd", pkgConfig: "libzstd",
            providers: [.apt(["libzstd-dev"])]),
    ],
    swiftLanguageModes: [.v6]
)

// scripts/checks/fuzz sets this variable. Only these builds have the target `fuzz`, because it needs libFuzzer to
// link.
if Context.environment["SAE_EXTRACT_FUZZ"] != nil {
    package.targets += [
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "RunState", "Results", "AuthorReceipts", "RunFiles", "Corpus", "Tokenization",
                "Gemma2", "SparseAutoencoders", "Tensors", "Threading", "Hub", "ArrayFiles",
                "Files", "Hooks", "ByteJSON", "TestSupport", "CZstd", "CLibFuzzer",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/Fuzz", exclude: ["CLibFuzzer"], swiftSettings: strict),
        .systemLibrary(name: "CLibFuzzer", path: "Tests/Fuzz/CLibFuzzer"),
    ]
}
