// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Modules whose loops run once per float or per byte: optimised in debug builds too, where they
/// would otherwise be two orders of magnitude slower.
let kernels: [SwiftSetting] = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]

let package = Package(
    name: "sae-extract",
    products: [
        .executable(name: "sae-extract", targets: ["sae-extract"]),
        // For tests alone: stands in for NVIDIA's libraries, which are loaded by their files' names.
        .library(name: "FakeCUDA", type: .dynamic, targets: ["FakeCUDA"]),
    ],
    traits: [
        .trait(
            name: "Hub",
            description:
                "Downloads models, SAEs and corpora from the Hugging Face Hub, through libcurl, which is looked for at run time."
        ),
        .default(enabledTraits: ["Hub"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        // swift-crypto's own, of which nothing is linked: named here so that each clone builds the same. (SwiftPM notes that no
        // target uses it.)
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
                "Results", "Extraction", "Corpus", "Tokenization", "Gemma2", "SparseAutoencoders",
                "Tensors", "CUDA", "Hub", "ArrayFiles", "ByteJSON", "CStartup",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict, plugins: ["SourceCommit"]),
        .plugin(name: "SourceCommit", capability: .buildTool()),
        .target(
            name: "Results",
            dependencies: [
                "Extraction", "SparseAutoencoders", "Gemma2", "Tensors", "ArrayFiles", "ByteJSON",
                "CReport",
            ],
            // Goes through files entry by entry.
            swiftSettings: kernels),
        .target(
            name: "Extraction",
            dependencies: [
                "Corpus", "Tokenization", "Gemma2", "SparseAutoencoders", "Tensors", "CUDA",
                "ArrayFiles", "ByteJSON",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "Corpus", dependencies: ["ByteJSON", "ArrayFiles", "CZlib", "CZstd"],
            swiftSettings: kernels),
        .target(
            name: "Tokenization",
            dependencies: [
                "ByteJSON", "ArrayFiles",
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: kernels),
        .target(
            name: "Gemma2", dependencies: ["Tensors", "ArrayFiles", "ByteJSON"],
            swiftSettings: strict),
        .target(
            name: "SparseAutoencoders", dependencies: ["Tensors", "ArrayFiles", "ByteJSON"],
            swiftSettings: strict),
        .target(
            name: "Tensors", dependencies: ["CUDA", "ArrayFiles", "CBFloat16", "COpenBLAS"],
            swiftSettings: kernels),
        .target(name: "CUDA", dependencies: ["CCUDA"], swiftSettings: strict),
        .target(
            name: "Hub",
            dependencies: [
                "ArrayFiles", "ByteJSON",
                .target(name: "CCurl", condition: .when(traits: ["Hub"])),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(name: "ArrayFiles", dependencies: ["ByteJSON", "CZlib"], swiftSettings: kernels),
        .target(name: "ByteJSON", swiftSettings: kernels),
        .executableTarget(
            name: "bench-tool",
            dependencies: ["ArrayFiles", "Corpus", "Tensors", "Tokenization", "BenchPeak"],
            path: "scripts/bench-tool",
            swiftSettings: strict),
        .target(
            name: "BenchPeak", path: "scripts/bench-peak", cSettings: [.unsafeFlags(["-O2"])]),
        .target(
            name: "TestSupport", dependencies: ["ArrayFiles", "ByteJSON"],
            path: "Tests/TestSupport",
            swiftSettings: kernels),
        .target(
            name: "FakeCUDA", path: "Tests/FakeCUDA",
            cxxSettings: [
                // A product and a sum are one operation where they can be, as on devices.
                .headerSearchPath("."),
                .unsafeFlags(["-O2", "-std=c++20", "-mfma", "-ffp-contract=fast"]),
            ]),
        .testTarget(name: "ByteJSONTests", dependencies: ["ByteJSON"], swiftSettings: strict),
        .testTarget(
            name: "ArrayFilesTests", dependencies: ["ArrayFiles", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TensorsTests",
            dependencies: ["Tensors", "CUDA", "ArrayFiles", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "CorpusTests", dependencies: ["Corpus", "ArrayFiles", "CZstd", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TokenizationTests", dependencies: ["Tokenization", "ByteJSON", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "Gemma2Tests",
            dependencies: ["Gemma2", "Tensors", "ArrayFiles", "ByteJSON", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "SparseAutoencodersTests",
            dependencies: [
                "SparseAutoencoders", "Tensors", "ArrayFiles", "ByteJSON", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "HubTests",
            dependencies: [
                "Hub", "ArrayFiles", "ByteJSON", "TestSupport",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ExtractionTests",
            dependencies: [
                "Extraction", "Corpus", "Gemma2", "SparseAutoencoders", "Tensors", "ArrayFiles",
                "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ResultsTests",
            dependencies: [
                "Results", "Extraction", "Gemma2", "ArrayFiles", "ByteJSON", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CLITests",
            dependencies: [
                "sae-extract", "Results", "Extraction", "Gemma2", "SparseAutoencoders", "Tensors",
                "CUDA", "ArrayFiles", "ByteJSON", "TestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: strict),
        .target(
            name: "CCUDA", exclude: ["kernels.cu", "kernels.ptx", "prelude.h"],
            // #embed is of C23.
            cSettings: [.unsafeFlags(["-std=c2x", "-Wno-c23-extensions"])]),
        .target(name: "CCurl", cSettings: [.unsafeFlags(["-std=c2x"])]),
        .target(name: "CStartup", cSettings: [.unsafeFlags(["-std=c2x"])]),
        .target(
            name: "CReport", exclude: ["page.html", "page.css", "page.js", "neuronpedia.json"],
            cSettings: [.unsafeFlags(["-std=c2x", "-Wno-c23-extensions"])]),
        // Instructions are chosen at run time: no flag says what the processor has. Optimised in debug builds too.
        .target(
            name: "CBFloat16", exclude: ["kernels.inc"],
            cSettings: [.unsafeFlags(["-O2", "-std=c2x"])]),
        .systemLibrary(
            name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    ],
    swiftLanguageModes: [.v6]
)

// scripts/check-fuzz sets this. Nobody else needs the program, which cannot be linked without libFuzzer.
if Context.environment["SAE_EXTRACT_FUZZ"] != nil {
    package.targets += [
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "Results", "Extraction", "Corpus", "Tokenization", "Gemma2", "SparseAutoencoders",
                "Tensors", "Hub", "ArrayFiles", "ByteJSON", "TestSupport", "CZstd", "CLibFuzzer",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/Fuzz", exclude: ["CLibFuzzer"], swiftSettings: strict),
        .systemLibrary(name: "CLibFuzzer", path: "Tests/Fuzz/CLibFuzzer"),
    ]
}
