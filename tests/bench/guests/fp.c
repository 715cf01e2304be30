/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Floating point: n-body, Mandelbrot, a float FIR filter, division and square roots. */
#include <math.h>
#include <stdio.h>

static double x[5][3] = {{0, 0, 0}, {4.8, -1.1, -.1}, {8.3, 4.1, -.4}, {12.8, -15.1, -.2}, {15.3, -25.9, .17}};
static double v[5][3] = {{0, 0, 0}, {.6, 2.8, -.02}, {-1, 1.8, .008}, {1, .8, -.01}, {.9, .5, -.03}};
static const double m[5] = {39.4, .037, .011, .0017, .002};
static void nbody(int steps)
{
    while (steps--) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], q = 0;
                for (int k = 0; k < 3; k++) { d[k] = x[i][k] - x[j][k]; q += d[k] * d[k]; }
                double w = .001 / (q * sqrt(q));
                for (int k = 0; k < 3; k++) { v[i][k] -= d[k] * m[j] * w; v[j][k] += d[k] * m[i] * w; }
            }
        for (int i = 0; i < 5; i++) for (int k = 0; k < 3; k++) x[i][k] += .001 * v[i][k];
    }
}
static int mandel(int n)
{
    int in = 0;
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            double cr = 3.0 * a / n - 2, ci = 2.0 * b / n - 1, r = 0, i = 0;
            int k = 0;
            for (; k < 50 && r * r + i * i < 4; k++) { double t = r * r - i * i + cr; i = 2 * r * i + ci; r = t; }
            in += k == 50;
        }
    return in;
}
static float fir(int n)
{
    static float s[1024], c[16];
    float acc = 0;
    for (int i = 0; i < 1024; i++) s[i] = (float)(i % 37) / 37;
    for (int i = 0; i < 16; i++) c[i] = 1.0f / (i + 3);
    while (n--)
        for (int i = 0; i < 1008; i++) {
            float t = 0;
            for (int k = 0; k < 16; k++) t += s[i + k] * c[k];
            acc += t > .5f ? t : -t;
            s[i] = acc - (float)(int)acc;
        }
    return acc;
}
int main(void)
{
    nbody(40000);
    int in = mandel(330);
    float f = fir(60);
    double t = 0;
    for (int i = 1; i < 120000; i++) t += sin(i * .01) * exp(-i * 1e-5) / log(i + 1.5);
    printf("%.12f %d %.6f %.12f\n", x[0][0], in, f, t);
}
