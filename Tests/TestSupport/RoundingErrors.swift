// Error bounds for results in float32. The bounds depend only on the element type and the length of a sum, so they hold for
// every order of summation. The order differs between OpenBLAS kernel sets, vector widths and devices.

/// The unit roundoff of float32: the largest relative error of one rounding.
public let float32Rounding = 0x1p-24

/// Returns the largest absolute error that a float32 sum of `products` may have, if the signs of the products are random.
///
/// The rounding errors of a sum behave like independent random errors (Higham and Mary, "A new approach to probabilistic
/// rounding error analysis", SIAM J. Sci. Comput. 41, 2019). n products of root mean square r have partial sums of up to about
/// √n·r, so the standard deviation of the sum of n rounding errors is below u·n·r/3, where u is the unit roundoff. The bound
/// is 12 standard deviations plus the rounding of the result. `roundings` is the rounding error of an operand, in
/// units of `float32Rounding`; it scales the bound.
public func sumTolerance(_ products: some Sequence<Double>, roundings: Double = 1) -> Double {
    var (count, squares, sum) = (0.0, 0.0, 0.0)
    for product in products {
        count += 1
        squares += product * product
        sum += product
    }
    return float32Rounding * roundings * (4 * (count * squares).squareRoot() + abs(sum))
}
