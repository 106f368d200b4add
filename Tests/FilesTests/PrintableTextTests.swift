// Tests that text from outside cannot act as a terminal command or break a line, and that readable names stay
// unchanged.

import Foundation
import TestSupport
import Testing

@testable import Files

struct PrintableTextTests {
    /// Returns whether both strings have the same bytes. `==` would also accept canonically equivalent strings.
    private func same(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

    /// Returns whether `scalar` must not occur in any output.
    private func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: !["\u{200C}", "\u{200D}"].contains(scalar)
        default: false
        }
    }

    @Test func everyCharacterStaysOrIsEscaped() {
        for value in UInt32(0)...0x10FFFF {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let isInvisible =
                isDangerous(scalar) || scalar.properties.isDefaultIgnorableCodePoint
            for text in [String(scalar), "ann\(scalar)bell"] {
                let shown = printable(text)
                if isInvisible {
                    #expect(shown.utf8.allSatisfy { (0x20..<0x7F).contains($0) }, "\(value)")
                    #expect(shown.utf8.contains(UInt8(ascii: "\\")), "\(value)")
                } else if !same(shown, text) {
                    Issue.record("U+\(String(value, radix: 16)) became \(shown)")
                }
            }
        }
    }

    @Test(arguments: [
        ("a\u{1B}]0;PWNED\u{7}b", #"a\x1b]0;PWNED\x07b"#), ("\u{9B}31m", #"\x9b31m"#),
        ("one\nError: two\r\nthree\tfour", #"one\nError: two\r\nthree\tfour"#),
        ("\u{85}\u{2028}\u{2029}\u{B}\u{C}", #"\x85\u2028\u2029\x0b\x0c"#),
        ("\u{202E}cod\u{2066}x\u{2069}", #"\u202ecod\u2066x\u2069"#),
        ("\u{200E}\u{200F}\u{61C}", #"\u200e\u200f\u061c"#),
        ("a\u{200B}b\u{2060}\u{FEFF}\u{AD}", #"a\u200bb\u2060\ufeff\xad"#),
        ("ann\u{E0041}\u{E007F}", #"ann\U000e0041\U000e007f"#),
        // Joiners and variation selectors that change no shape, and invisible fillers.
        ("a\u{200D}b\u{200C}c\u{200D}", #"a\u200db\u200cc\u200d"#),
        ("a\u{FE0F}é\u{FE0F}\u{FE0F}\u{E0101}", "a\\ufe0fé\u{FE0F}\\ufe0f\\U000e0101"),
        ("a\u{3164}\u{34F}\u{115F}", #"a\u3164\u034f\u115f"#),
        // The first two texts are one `Character` each.
        ("\r\n", #"\r\n"#), ("\n\u{301}", "\\n\u{301}"), ("\u{0}", #"\x00"#), ("", ""),
        (#"C:\new"#, #"C:\new"#),
    ])
    func whatIsEscapedReadsAsInPython(text: String, shown: String) {
        #expect(same(printable(text), shown), "\(printable(text))")
    }

    @Test(arguments: [
        "Charlotte Brontë", "Bronte\u{308}", "勃朗特", "Ｗｉｄｅ　ｓｐａｃｅ", "No\u{A0}break", "🎉👍🏽", "👩‍🚒",
        "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️‍🔥", "1️⃣ #️⃣", "🇩🇪", "می‌خواهم", "محمدرضا", "שלום", "क्‍ष", "ශ්‍රී", "അവന്‍", "葛\u{E0100}城",
        "z̸̢̛a̷l̶g̸o̵", "\u{F8FF}", "\u{FFFD}",
    ])
    func namesStay(name: String) {
        #expect(same(printable(name), name), "\(printable(name))")
        #expect(same(printable("\(name), \(name):"), "\(name), \(name):"))
    }

    /// Returns random texts. They contain characters that change their neighbours, such as joiners and combining
    /// characters.
    private func randomTexts(_ count: Int, seed: UInt64) -> [String] {
        let pieces: [Unicode.Scalar] =
            Array("ab1#'\"\\$`!é勃ा".unicodeScalars) + [
                "\n", "\r", "\t", "\u{1B}", "\u{7}", "\u{7F}", "\u{9B}", "\u{85}", "\u{2028}",
                "\u{202E}", "\u{2066}", "\u{200B}", "\u{200C}", "\u{200D}", "\u{FE0F}", "\u{20E3}",
                "\u{E0041}", "\u{E0100}", "\u{301}", "م", "ک", "क", "\u{94D}", "👩", "🚒", "❤", " ",
            ]
        var random = SeededGenerator(seed)
        return (0..<count).map { _ in
            var text = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0...12, using: &random) {
                text.append(pieces.randomElement(using: &random)!)
            }
            return String(text)
        }
    }

    @Test func whatHasBeenThroughStays() {
        for text in randomTexts(20_000, seed: 1) {
            let shown = printable(text)
            #expect(!shown.unicodeScalars.contains(where: isDangerous), "\(shown)")
            #expect(same(printable(shown), shown), "\(shown)")
            // A printable text must also stay unchanged within another text, such as a message.
            let message = "author '\(shown)': \(shown)"
            #expect(same(printable(message), message), "\(message)")
        }
    }

    @Test func jsonStaysTheSameJSON() throws {
        for text in randomTexts(5000, seed: 2) {
            let data = try JSONEncoder().encode([text, "x"])
            let shown = printableJSON(Array(data))
            #expect(
                !String(decoding: shown, as: UTF8.self).unicodeScalars.contains(where: isDangerous))
            let back = try JSONDecoder().decode([String].self, from: Data(shown))
            #expect(same(back[0], text))
        }
        let layout = Array("{\n    \"a\": \"\u{7F}é\u{2028}\u{E0041}\"\n}".utf8)
        #expect(
            String(decoding: printableJSON(layout), as: UTF8.self)
                == #"{\#n    "a": "\u007fé\u2028\udb40\udc41"\#n}"#)
    }

    /// Checks that a word of a command keeps its bytes when it is printed and then pasted into a shell.
    @Test func wordsOfCommandsCanBePasted() throws {
        let texts = randomTexts(2000, seed: 3) + ["", "plain-1.0_x", "it's", "a\u{27}\u{301}; id"]
        let words = texts.map { printable("x \(shellWord($0)) y").dropFirst(2).dropLast(2) }
        for word in words { #expect(!word.unicodeScalars.contains(where: isDangerous), "\(word)") }
        #expect(shellWord("plain-1.0_x") == "plain-1.0_x" && shellWord("") == "''")
        #expect(shellWord("a b") == "'a b'" && shellWord("it's\n") == #"$'it\'s\012'"#)
        let folder = try TemporaryFolder()
        let script = try folder.write(
            ("printf '%s\\0' " + words.joined(separator: " ")).utf8, "words.sh")
        let shell = try TestCommand.run(["bash", script])
        let back = shell.output.utf8.split(separator: 0, omittingEmptySubsequences: false)
            .dropLast()
        #expect(back.count == texts.count)
        for (text, got) in zip(texts, back) {
            #expect(got.elementsEqual(text.utf8), "\(shellWord(text))")
        }
    }

    /// Checks that the time is proportional to the length of the text. A quadratic method would take many minutes.
    @Test(.timeLimit(.minutes(60))) func longTextsAreNoTrouble() {
        let text = String(repeating: "é\u{1B}\u{200D}勃", count: 500_000)
        #expect(printable(text).utf8.count == 500_000 * (2 + 4 + 6 + 3))
    }
}
