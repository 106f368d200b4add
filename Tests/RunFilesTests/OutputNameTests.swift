// Tests of the names of output files. Labels and authors are encoded, and parsing a name must give back its parts.

import Hooks
import TestSupport
import Testing

@testable import RunFiles

struct OutputNameTests {
    // MARK: Making

    @Test(arguments: [
        ("harbour", "harbour"), ("quarry works", "quarry works"), ("lantérne", "lantérne"),
        ("", "%"), ("a/b", "a%2Fb"), ("a\u{0}b", "a%00b"), ("50%", "50%25"), (".x.y", "%2Ex.y"),
        ("a_b", "a_b"), ("_a_", "%5Fa%5F"), ("a__b", "a%5F%5Fb"), ("_", "%5F"),
        ("a\u{7F}\n", "a%7F%0A"),
        ("a_b__", "a_b%5F%5F"),
    ])
    func authorsAreEncodedForFileNames(author: String, encoded: String) {
        let naming = OutputNaming(label: "google/gemma-2-2b")
        #expect(naming.encoded(author) == encoded)
        #expect(
            naming.file(.entropy, author: author)
                == "sae__google_gemma-2-2b__entropy_loss__\(encoded).npy")
    }

    @Test func longNamesAreCutAndTellApart() {
        let naming = OutputNaming(label: "m")
        #expect(naming.encoded(String(repeating: "a", count: 150)).utf8.count == 150)
        let (a, b) = (String(repeating: "é", count: 100), String(repeating: "é", count: 99) + "è")
        for name in [a, b, String(repeating: "/", count: 60)] {
            let encoded = naming.encoded(name)
            #expect(encoded.utf8.count <= 150)
            #expect(encoded.contains("%-"))
            #expect(!encoded.contains("\u{FFFD}"))
        }
        #expect(naming.encoded(a) != naming.encoded(b))
        #expect(naming.encoded(a).hasPrefix(String(repeating: "é", count: 66) + "%-"))
    }

    @Test func activationsAreNamedBySiteAndLayer() {
        let naming = OutputNaming(label: "google/gemma-2-2b")
        let hook = HookPoint(layer: 5, site: .mlp)
        #expect(
            naming.activations(hook, author: "x", isSparse: false)
                == "sae__google_gemma-2-2b__mlp__activations__x__layer_5.npz")
        #expect(
            naming.activations(hook, author: "x", isSparse: true)
                == "sae__google_gemma-2-2b__mlp__activations__x__layer_5.sparse.npz")
    }

    @Test(arguments: [
        ("google/gemma-2-2b", "google_gemma-2-2b", "google_gemma-2-2b"),
        ("gemma__ft", "gemma%5F%5Fft", "gemma%5F%5Fft"), ("a_/b", "a%5F%5Fb", "a%5F%5Fb"),
        ("_x_", "%5Fx%5F", "%5Fx%5F"), ("a b%c", "a b%25c", "a b%25c"),
        ("tab\there", "tab%09here", "tab%09here"), (".x", "%2Ex", "%2Ex"),
        // Folder names also encode a final dot or space, reserved device names, and characters that Windows refuses.
        // In file names, the label stands between `sae__` and other words.
        ("end.", "end.", "end%2E"), ("end ", "end ", "end%20"), ("con", "con", "%63on"),
        ("COM1.x", "COM1.x", "%43OM1.x"), ("comma", "comma", "comma"),
        ("a:b?", "a:b?", "a%3Ab%3F"),
    ])
    func labelsAreEncoded(label: String, name: String, folder: String) {
        let naming = OutputNaming(label: label)
        #expect(naming.labelName == name && naming.folderName == folder)
        #expect(naming.file(.tokens, author: "x") == "sae__\(name)__tokens__x.json")
        #expect(OutputNaming(labelName: naming.labelName) == naming)
        #expect(
            OutputNaming(earlierSpellingOf: label).labelName == label.replacing("/", with: "_"))
    }

    // MARK: Parsing

    @Test func namesAreReadBack() {
        let tokens = OutputName("sae__google_gemma-2-2b__tokens__quarry works.json")
        #expect(tokens?.kind == .tokens && tokens?.author == "quarry works")
        let dense = OutputName("sae__m__x__att__activations__a_b__layer_12.npz")
        #expect(dense?.site == .att && dense?.author == "a_b" && dense?.start == "sae__m__x__")
        #expect(dense?.sibling(.crossEntropy) == "sae__m__x__cross_entropy_loss__a_b.npy")
        let sparse = OutputName("sae__m__res__activations__res__layer_1.sparse.npz")
        #expect(sparse?.site == .res && sparse?.author == "res")
        #expect(OutputName("params.npz") == nil && OutputName("sae__m.npz") == nil)
    }

    /// Pieces of names that are hard to parse: separators, words of the naming pattern, scalars that join a
    /// neighbouring character, and characters that are encoded.
    private static let pieces = [
        "_", "__", "sae", "sae__", "activations", "__activations__", "layer_", "__layer_3", "res",
        "mlp", "att", "tokens",
        "__tokens__", "full_texts", "entropy_loss", "cross_entropy_loss", ".", ".npz",
        ".sparse.npz", ".npy", ".json", "/",
        "%", "%-", "%5F", " ", "\u{0}", "\n", "\r\n", "\u{301}", "\u{200D}", "\u{600}", "\u{FE0F}",
        "é", "字", "👩‍👩‍👧", "🇩", "a",
        "B", "con", "\\", ":", "\u{7F}", "ß", "İ", String(repeating: "é", count: 70),
    ]

    private static func hostile(_ random: inout SeededGenerator) -> String {
        (0..<Int.random(in: 0...6, using: &random)).map { _ in pieces.randomElement(using: &random)!
        }
        .joined()
    }

    /// Checks for random labels and authors that parsing a file name gives back its parts. Compares bytes, because
    /// Swift treats canonically equivalent strings as equal.
    @Test func parsingAMadeNameGivesBackItsParts() throws {
        func isSame(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }
        var random = SeededGenerator(31)
        for round in 0..<4000 {
            // The first labels are the single pieces. Later labels are random combinations.
            let pieces = OutputNameTests.pieces
            let label = round < pieces.count ? pieces[round] : OutputNameTests.hostile(&random)
            let author = OutputNameTests.hostile(&random)
            let hook = HookPoint(
                layer: Int.random(in: 0...41, using: &random),
                site: Site.allCases.randomElement(using: &random)!)
            // Earlier versions wrote labels that may contain "__".
            for naming in [OutputNaming(label: label), OutputNaming(earlierSpellingOf: label)] {
                let encoded = naming.encoded(author)
                #expect(!encoded.utf8.contains(UInt8(ascii: "/")))
                #expect(!Array(encoded.utf8).contains([0x5F, 0x5F]))
                for name in naming.activations(hook, author: author) {
                    let parsed = try #require(OutputName(name), "\(name)")
                    #expect(parsed.kind == nil && parsed.site == hook.site, "\(name)")
                    #expect(isSame(parsed.start, naming.start), "\(name)")
                    #expect(isSame(parsed.author, encoded), "\(name)")
                    for kind in OutputNaming.Kind.allCases {
                        #expect(isSame(parsed.sibling(kind), naming.file(kind, author: author)))
                    }
                }
                for kind in OutputNaming.Kind.allCases {
                    let name = naming.file(kind, author: author)
                    let parsed = try #require(OutputName(name), "\(name)")
                    #expect(parsed.kind == kind && parsed.site == nil, "\(name)")
                    #expect(isSame(parsed.start, naming.start), "\(name)")
                    #expect(isSame(parsed.author, encoded), "\(name)")
                }
            }
        }
    }

    /// Checks that different authors never share a file name.
    @Test func differentAuthorsHaveDifferentNames() {
        var random = SeededGenerator(37)
        let naming = OutputNaming(label: "m")
        var authors: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<4000 {
            let author = OutputNameTests.hostile(&random)
            let name = Array(naming.file(.tokens, author: author).utf8)
            if let known = authors[name] { #expect(known == Array(author.utf8)) }
            authors[name] = Array(author.utf8)
        }
    }
}
