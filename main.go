// Command paramedic tells the managers of virtual machines, at once, which of them a fault of their host hits.
package main

import "os"

func main() { os.Exit(0) }
