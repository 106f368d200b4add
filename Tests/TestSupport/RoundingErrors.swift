// Error bounds for results in float32. They hold for every order of summation. This order differs between OpenBLAS
// kernel sets, vector widths and devices.

/// The unit roundoff of float32: the largest relative error of one rounding.
package let float32Rounding = 0x1p-24

/// Returns a bound for the absolute error of a float32 sum of `products` with random signs. `roundings` is the
/// rounding error of an operand, as a multiple of `float32Rounding`.
///
/// The rounding errors of a sum behave like independent random errors (Higham and Mary, "A new approach to
/// probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019). Let n be the number of products, r their
/// root mean square, and u the unit roundoff. A partial sum is at most about √n·r. So the sum of n rounding errors
/// has a standard deviation below u·n·r/3. The bound is 12 standard deviations plus the rounding of the result,
/// multiplied by `roundings`.
package func sumTolerance(_ products: some Sequence<Double>, roundings: Double = 1) -> Double {
    var (count, squares, sum) = (0.0, 0.0, 0.0)
    for product in products {
        count += 1
        squares += product * product
        sum += product
    }
    return float32Rounding * roundings * (4 * (count * squares).squareRoot() + abs(sum))
}
