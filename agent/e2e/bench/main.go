// Command bench measures fault to callback on real parts, beside the floor. (A colleague, "bench", is building this
// right now: the lab's owner leaves it alone.)
package main

func main() {}
