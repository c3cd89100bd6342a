// Package ownership tells whose a directory is.
package ownership
