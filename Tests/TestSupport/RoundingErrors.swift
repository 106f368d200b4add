// How far results in float32 may lie from exact ones. Bounds come from the type and the depth of a sum, so that they hold for
// every order of summation: each set of BLAS kernels, each width of vectors and each device has its own.

/// float32's unit roundoff: the largest relative error of one rounding.
public let float32Rounding = 0x1p-24

/// How far a float32 sum of `products`, whose signs are random, may lie from the exact one.
///
/// Rounding errors of a sum behave as independent ones (Higham and Mary, "A new approach to probabilistic rounding error
/// analysis", SIAM J. Sci. Comput. 41, 2019). n products of root mean square r have partial sums of up to about √n·r, so the
/// errors of n roundings add up to a standard deviation below u·n·r/3. The bound is 12 of these, and the result's own
/// rounding. `roundings` is how many of float32's an operand itself is rounded by.
public func sumTolerance(_ products: some Sequence<Double>, roundings: Double = 1) -> Double {
    var (count, squares, sum) = (0.0, 0.0, 0.0)
    for product in products {
        count += 1
        squares += product * product
        sum += product
    }
    return float32Rounding * roundings * (4 * (count * squares).squareRoot() + abs(sum))
}
